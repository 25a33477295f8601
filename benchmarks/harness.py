"""How long the harness itself takes for each trial, in seconds, as the study grows.

    python benchmarks/harness.py [--rounds N] [--json PATH]

One worker, the default sampler and pruner, SQLite. Each trial is asked for, composed, run as a Hydra job, recorded in
MLflow with all its params, metrics and files, and told to Optuna. Its training (no_training.py) returns at once, either
without a report ("no reports") or after ten that go to the pruner, which keeps every trial ("ten reports").

The time is measured from the start of one trial to the start of the next and averaged over N trials. The table shows
the median of these means over three studies, because times on a shared machine vary from minute to minute. A study is
brought to its size with trials of the same space that are written to Optuna and MLflow directly.

The last row is the shipped language model, trained for one step and evaluated once: it shows what this task records
itself, with diagnosis and samples.
"""

import contextlib
import random
import statistics
import tempfile
from collections.abc import Iterator

import optuna
from common import finish, parse_arguments
from no_training import SPACE
from optuna.trial import TrialState, create_trial

from sweeps.cli import run
from sweeps.tracking.store import MlflowClient

SIZES = (10, 500, 2000)
LIMITS = {(10, "no reports"): 0.15, (2000, "no reports"): 0.25}
STUDIES = 3
TASKS = {"no reports": (*SPACE, "task.reports=0"), "ten reports": (*SPACE, "task.reports=10")}
LANGUAGE_MODEL = ("train.steps=1", "train.evaluations=1", "pruner=none")
STORAGE = "sqlite:///mlruns/study.db"


def sweep(name: str, n_trials: int, *more: str) -> None:
    fixed = (f"study.name={name}", "study.workers=1", "study.confirm.top=0", f"study.n_trials={n_trials}")
    if run(["sweep", *more, *fixed, "study.pictures=false", "study.register=false"]) != 0:
        raise SystemExit(f"the study {name} failed")


def trials(name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=STORAGE).trials


def fill(name: str, size: int) -> None:
    """Bring a study to a size with trials that nobody ran."""
    study = optuna.load_study(study_name=name, storage=STORAGE)
    client = MlflowClient("sqlite:///mlruns/mlflow.db")
    model = next(trial for trial in study.trials if trial.state == TrialState.COMPLETE)
    sampler = optuna.samplers.RandomSampler(seed=size)
    for number in range(len(study.trials), size):
        params = {
            key: sampler.sample_independent(study, model, key, distribution)
            for key, distribution in model.distributions.items()
        }
        loss = random.uniform(2.4, 2.6)
        curve = {evaluation: loss + 0.1 / evaluation for evaluation in range(1, 11)}
        study.add_trial(
            create_trial(params=params, distributions=model.distributions, value=loss, intermediate_values=curve)
        )
        tags = {"kind": "trial", "study": name, "trial_number": str(number), "trial_state": "COMPLETE"}
        run_id = client.create_run("1", tags=tags).info.run_id
        client.set_tag(run_id, "config_hash", "0")
        client.log_metric(run_id, "best_dev_loss", loss)
        client.set_terminated(run_id, "FINISHED")


def measure(name: str, count: int, *task: str) -> float:
    """Mean seconds from the start of one trial to that of the next."""
    before = len(trials(name))
    sweep(name, before + count + 1, *task)
    starts = [trial.datetime_start.timestamp() for trial in trials(name)[before:] if trial.datetime_start]
    return (starts[-1] - starts[0]) / (len(starts) - 1)


@contextlib.contextmanager
def empty_folder() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


def measure_studies(count: int) -> dict[tuple[int, str], float]:
    """Mean seconds at each size with each task, in new studies."""
    means = {}
    with empty_folder():
        for task, words in TASKS.items():
            name = task.replace(" ", "-")
            sweep(name, SIZES[0], *words)
            for size in SIZES:
                fill(name, size)
                means[size, task] = measure(name, count, *words)
        sweep("language-model", SIZES[0], *LANGUAGE_MODEL)
        means[SIZES[0], "language model, one step"] = measure("language-model", count, *LANGUAGE_MODEL)
    return means


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0], rounds=30).parse_args()
    studies = [measure_studies(arguments.rounds) for _ in range(STUDIES)]
    rows = [
        {
            "task": task,
            "trials in the study": size,
            "s a trial": statistics.median(means[size, task] for means in studies),
            "of each study s": " ".join(f"{means[size, task]:.3f}" for means in studies),
            "under s": LIMITS.get((size, task)),
        }
        for size, task in studies[0]
    ]
    finish(rows, "given_names", arguments.json)


if __name__ == "__main__":
    main()
