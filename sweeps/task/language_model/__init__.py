"""The shipped task: character-level language models on a list of words."""
