"""The harness around the models: study, tracking, winner, comparison, command line."""
