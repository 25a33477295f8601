"""The seam: what a task is; language_model/ is the one that is shipped."""
