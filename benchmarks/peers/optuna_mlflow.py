"""Optuna with MLflow: one process, `study.optimize`.   python optuna_mlflow.py N_TRIALS STEPS"""

import json
import sys

import mlflow
import optuna
from lecture import train

N_TRIALS, STEPS = int(sys.argv[1]), int(sys.argv[2])


def objective(trial: optuna.Trial) -> float:
    config = {"block_size": 3, "embedding_size": 10, "hidden_neurons": 200, "batch_size": 32}
    config["lr"] = trial.suggest_float("lr", 0.01, 0.5, log=True)
    config["decay_at"] = trial.suggest_float("decay_at", 0.3, 0.9)
    with mlflow.start_run(run_name=f"trial {trial.number}"):
        mlflow.log_params(config)
        dev_loss = train(config, STEPS, 10, lambda step, loss: mlflow.log_metric("dev_loss", loss, step=step))
        mlflow.log_metric("best_dev_loss", dev_loss)
    return dev_loss


mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("peer")
study = optuna.create_study(storage="sqlite:///study.db", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=N_TRIALS)
print(json.dumps({"best": study.best_value, "trials": len(study.trials)}))
