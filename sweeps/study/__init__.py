"""A study from start to end."""
