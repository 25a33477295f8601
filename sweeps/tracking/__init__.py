"""The records in MLflow; no other room imports it.

`quiet` first: nothing here imports the rest, because MLflow reads some of its settings when it is imported.
"""
