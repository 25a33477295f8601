"""How long the harness itself takes for each trial, in seconds, as the study grows.

    python benchmarks/harness.py [--rounds N] [--json PATH]

One worker, the default sampler and pruner, SQLite. Each trial is asked for, composed, run as a Hydra job, recorded in
MLflow with all its params, metrics and files, and told to Optuna. Its training is replaced by a function that returns
at once, either without an evaluation ("no reports") or after ten evaluations that are reported to the pruner, which
keeps every trial ("ten reports").

The time is measured from one training to the next and averaged over N trials. The table shows the median of these
means over three studies, because times on a shared machine vary from minute to minute. A study is brought to its size
with trials of the same space that are written to Optuna and MLflow directly.
"""

import contextlib
import random
import statistics
import tempfile
import time
from typing import Any
from unittest import mock

import optuna
import torch
from common import finish, parse_arguments
from optuna.trial import TrialState, create_trial

import sweeps.study.runs
from makemore.mlp import MLP, MLPConfig
from makemore.train import Corpus, Evaluation, TrainResult
from sweeps.cli import run
from sweeps.tracking.runs import RunTag
from sweeps.tracking.store import MlflowClient

SIZES = (10, 500, 2000)
LIMITS = {10: 0.12, 2000: 0.3}
STUDIES = 3
REPORTS = (0, 10)


class NoTraining:
    """A replacement for `train` that returns at once and notes the time of each call."""

    def __init__(self, reports: int) -> None:
        self.reports, self.times = reports, list[float]()

    def __call__(self, corpus: Corpus, model_config: MLPConfig, *arguments: Any) -> TrainResult:
        self.times.append(time.perf_counter())
        *_, report, curve = arguments
        model = MLP(model_config, corpus.alphabet.vocab_size, torch.Generator())
        with torch.no_grad():
            model.b2[0] = 1.5  # so that sampled words end after six characters, like those of a trained model
        for step in range(1, self.reports + 1):
            # Each trial is better than those before it, so none is pruned.
            curve.append(Evaluation(step, 2.5, 2.5 - 1e-6 * time.monotonic(), 0.1, 0.1))
            report(step, curve[-1].dev_loss)
        if not curve:
            curve.append(Evaluation(1, 2.5, 2.5, 0.1, 0.1))
        return TrainResult(model, random.uniform(2.4, 2.5), 1, 0.1, 0.1, 1.0, 11897)


def sweep(n_trials: int, *more: str) -> None:
    fixed = ("study.name=harness", "study.workers=1", "study.confirm.top=0", f"study.n_trials={n_trials}")
    assert run(["sweep", *fixed, *more]) == 0


def fill(size: int) -> None:
    """Bring the study to a size with trials that were never run."""
    study = optuna.load_study(study_name="harness", storage="sqlite:///mlruns/study.db")
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
        tags = {"kind": "trial", "study": "harness", "trial_number": str(number), "trial_state": "COMPLETE"}
        run_id = client.create_run("1", tags=tags).info.run_id
        client.log_batch(run_id, tags=[RunTag("config_hash", "0")])
        client.log_metric(run_id, "best_dev_loss", loss)
        client.set_terminated(run_id, "FINISHED")


def measure(count: int, reports: int) -> float:
    """Mean seconds from one training to the next."""
    training = NoTraining(reports)
    finished = len(optuna.load_study(study_name="harness", storage="sqlite:///mlruns/study.db").trials)
    with mock.patch.object(sweeps.study.runs, "train", training):
        sweep(finished + count + 1)
    return statistics.mean(later - earlier for earlier, later in zip(training.times, training.times[1:], strict=False))


def measure_study(count: int) -> dict[tuple[int, int], float]:
    """Mean seconds per trial in a new study, by size and number of reports."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with mock.patch.object(sweeps.study.runs, "train", NoTraining(10)):
            sweep(SIZES[0])
        means = {}
        for size in SIZES:
            fill(size)
            means |= {(size, reports): measure(count, reports) for reports in REPORTS}
    return means


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0], rounds=30).parse_args()
    studies = [measure_study(arguments.rounds) for _ in range(STUDIES)]
    rows = []
    for size in SIZES:
        none, ten = (statistics.median(means[size, reports] for means in studies) for reports in REPORTS)
        each = " ".join(f"{means[size, 0]:.3f}" for means in studies)
        rows.append(
            {
                "trials in the study": size,
                "no reports s": none,
                "of each study s": each,
                "ten reports s": ten,
                "under s": LIMITS.get(size),
            }
        )
    finish(rows, "given_names", arguments.json)


if __name__ == "__main__":
    main()
