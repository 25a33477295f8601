"""Hydra's Optuna sweeper with MLflow.   python hydra_sweeper.py --multirun hydra.sweeper.n_trials=N steps=STEPS"""

from typing import Any

import hydra
import mlflow
from lecture import train


@hydra.main(version_base=None, config_path=".", config_name="hydra_sweeper")
def main(cfg: Any) -> float:
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("peer")
    with mlflow.start_run():
        mlflow.log_params(dict(cfg))
        dev_loss = train(cfg, cfg.steps, 10, lambda step, loss: mlflow.log_metric("dev_loss", loss, step=step))
        mlflow.log_metric("best_dev_loss", dev_loss)
    return dev_loss


if __name__ == "__main__":
    main()
