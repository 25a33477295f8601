"""The interface between the harness and a task; the shipped task is in language_model/."""
