"""Ray Tune with Optuna's search and MLflow, two trials at a time.

    python ray_tune.py N_TRIALS STEPS [asha] [seconds=S]

Without seconds: the lecture's model, its learning rate and decay searched. With them: the lecture's whole recipe is
searched, sizes and batch too, for so long, whatever N_TRIALS says.
"""

import json
import sys
from pathlib import Path
from typing import Any

import ray
from lecture import train
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

N_TRIALS, STEPS = int(sys.argv[1]), int(sys.argv[2])
SECONDS = next((float(word.partition("=")[2]) for word in sys.argv if word.startswith("seconds=")), None)
EVALUATIONS = 20 if SECONDS else 10


def trainable(config: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(1)
    train(config, STEPS, EVALUATIONS, lambda step, loss: tune.report({"dev_loss": loss, "step": step}))


space: dict[str, Any] = {"block_size": 3, "embedding_size": 10, "hidden_neurons": 200, "batch_size": 32}
if SECONDS:
    space = {
        "block_size": tune.randint(2, 6),
        "embedding_size": tune.randint(2, 31),
        "hidden_neurons": tune.lograndint(50, 501),
        "batch_size": tune.choice([16, 32, 64]),
    }
space |= {"lr": tune.loguniform(0.01, 0.5), "decay_at": tune.uniform(0.3, 0.9)}
scheduler = ASHAScheduler(time_attr="training_iteration", max_t=EVALUATIONS) if "asha" in sys.argv else None
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
tuner = tune.Tuner(
    trainable,
    param_space=space,
    tune_config=tune.TuneConfig(
        metric="dev_loss",
        mode="min",
        num_samples=-1 if SECONDS else N_TRIALS,
        time_budget_s=SECONDS,
        max_concurrent_trials=2,
        scheduler=scheduler,
        search_alg=OptunaSearch(seed=0),
    ),
    run_config=tune.RunConfig(
        storage_path=str(Path.cwd() / "ray"),
        verbose=0,
        callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db", experiment_name="peer")],
    ),
)
results = tuner.fit()
frames = [result.metrics_dataframe for result in results]  # none, or an empty one, of a trial that was just started
losses = [min(frame["dev_loss"]) for frame in frames if frame is not None and "dev_loss" in frame]
print(json.dumps({"best": min(losses), "trials": len(results)}))
