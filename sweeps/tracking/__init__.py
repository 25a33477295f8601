"""MLflow: runs, queries and the model registry; the only room that imports it."""
