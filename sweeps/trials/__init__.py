"""The trials of a study in Optuna's storage: exact totals, heartbeats, confirmation."""
