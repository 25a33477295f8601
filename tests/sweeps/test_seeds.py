"""Several seeds for each setting: one trial, never a hyperparameter; and every setting trained once with a seed."""

import json
import math
import statistics
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Makemore, start
from fake_tasks import FAKE

from sweeps.tracking.store import MlflowClient

SEEDED = ("sweep", *FAKE, "task=seeded", "study.name=a", "study.workers=1")
SEARCH = (*SEEDED, "study.confirm.top=0")


def trials(folder: Path, name: str = "a") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/mlruns/study.db").trials


def runs(folder: Path, kind: str) -> list[Any]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    return list(client.search_runs(["1"], f"tags.kind = '{kind}'", max_results=1000))


def settings_of(makemore: Makemore, *arguments: str) -> list[dict[str, Any]]:
    answer = makemore("compare", "by=setting", "format=json", *arguments)
    assert answer.code == 0, answer.err
    rows: list[dict[str, Any]] = json.loads(answer.out)
    return rows


def loss_of(level: float, seed: int) -> float:
    """What the task's dev loss is, but for the mean over its items."""
    return level + 0.01 * math.sin(seed)


@pytest.mark.parametrize("words", [["seed=0,1,2"], ["study.seeds=3"], ["seed=choice(0,1,2)", "study.seeds=3"]])
def test_a_trial_is_a_setting_and_its_dev_loss_the_mean_over_the_seeds(
    makemore: Makemore, workdir: Path, words: list[str]
) -> None:
    answer = makemore(*SEARCH, "task.level=1,2", *words, "study.n_trials=40")
    assert answer.code == 0, answer.err
    assert "the space has 2 settings; each is trained once with seeds 0, 1, 2, to its end" in answer.err
    low, high = sorted(trials(workdir), key=lambda trial: trial.value or 0.0)
    assert (low.params, high.params) == ({"task.level": 1}, {"task.level": 2})
    assert high.value - low.value == pytest.approx(1)
    seeds = [run for run in runs(workdir, "seed") if float(run.data.params["task.level"]) == 1]
    losses = {run.data.params["seed"]: run.data.metrics["best_dev_loss"] for run in seeds}
    assert sorted(losses) == ["0", "1", "2"]
    assert losses["1"] - losses["0"] == pytest.approx(loss_of(1, 1) - loss_of(1, 0), rel=1e-4)
    assert low.value == pytest.approx(statistics.fmean(losses.values()))
    [trial] = [run for run in runs(workdir, "trial") if float(run.data.params["task.level"]) == 1]
    assert {run.data.tags["mlflow.parentRunId"] for run in seeds} == {trial.info.run_id}
    assert trial.data.params["seed"] == "0, 1, 2"
    assert trial.data.metrics["dev_loss_sd"] == pytest.approx(statistics.stdev(losses.values()))
    assert trial.data.metrics["weights_dev_loss"] == pytest.approx(losses["0"])
    assert {run.info.status for run in (*seeds, trial)} == {"FINISHED"}
    assert [row["n"] for row in settings_of(makemore)] == [3, 3]


def test_one_setting_is_trained_with_five_seeds_and_nothing_else(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*SEARCH, "study.seeds=5")
    assert answer.code == 0, answer.err
    assert "there is only one setting, which is trained once with seeds 0, 1, 2, 3, 4" in answer.err
    assert len(trials(workdir)) == 1
    [row] = settings_of(makemore)
    assert (row["n"], row["mean_dev_loss"]) == (5, pytest.approx(trials(workdir)[0].value))


def test_seeds_that_confirm_are_none_of_the_search(makemore: Makemore, workdir: Path) -> None:
    confirm = ("study.confirm.top=2", "study.confirm.seeds=2")
    assert makemore(*SEEDED, "task.level=1,2", "seed=3,1,7", *confirm).code == 0
    assert Counter(run.data.params["seed"] for run in runs(workdir, "confirm")) == {"8": 2, "9": 2}
    assert [row["n"] for row in settings_of(makemore)] == [5, 5]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study.seeds=2", "seed=0,1,2"], "study.seeds is 2, but seed=0,1,2 names 3 seeds; give one of the two"),
        (["study.seeds=0", "task.level=1,2"], "study.seeds is 0; it must be >= 1"),
        (["seed=interval(0,9)"], "seed=interval(0,9) are no seeds; they must be whole numbers >= 0"),
        (["+space.settings=[{seed: 1},{seed: 2}]"], "study.seeds=3 trains each with three seeds"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(
    makemore: Makemore, workdir: Path, words: list[str], message: str
) -> None:
    answer = makemore(*SEARCH, *words)
    assert answer.code == 2
    assert message in answer.err
    assert sorted(path.name for path in (workdir / "mlruns").iterdir()) == ["mlflow.db"]


def test_a_study_goes_on_only_with_its_seeds(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*SEARCH, "task.level=1,2", "study.seeds=2").code == 0
    answer = makemore(*SEARCH, "task.level=1,2", "study.seeds=3")
    assert answer.code == 2
    assert "seed was 0, 1, is 0, 1, 2" in answer.err


def test_a_seed_that_diverges_makes_the_trial_one_that_never_wins(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*SEARCH, "task.level=1,2", "study.seeds=3", "task.diverges_with=1")
    assert answer.code == 1
    assert {(trial.state.name, trial.value) for trial in trials(workdir)} == {("PRUNED", math.inf)}
    states = Counter((run.data.params["seed"], run.data.tags["trial_state"]) for run in runs(workdir, "seed"))
    assert states == {("0", "COMPLETE"): 2, ("1", "PRUNED"): 2}
    assert {run.info.status for run in runs(workdir, "trial")} == {"KILLED"}
    assert [row["mean_dev_loss"] for row in settings_of(makemore)] == [None, None]  # infinite, which JSON has not


@pytest.mark.nightly
def test_a_trial_whose_worker_is_killed_in_its_second_seed_is_tried_again(workdir: Path) -> None:
    dies = ("task.level=1,2", "study.seeds=3", "task.dies_at=1")
    first = start(*SEARCH, *dies, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first.communicate(timeout=60)
    assert first.returncode == -9
    again = start(*SEARCH, *dies, "study.timeout=60", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = again.communicate(timeout=90)
    assert again.returncode == 0, errors
    complete = [trial for trial in trials(workdir) if trial.state.name == "COMPLETE"]
    assert sorted(trial.params["task.level"] for trial in complete) == [1, 2]
    assert {run.info.status for run in (*runs(workdir, "seed"), *runs(workdir, "trial"))} == {"FINISHED", "KILLED"}


def test_a_small_space_is_tried_in_full_unless_a_sampler_is_chosen(makemore: Makemore, workdir: Path) -> None:
    space = ("task.level=1,2,3,4,5,6", "study.n_trials=9")
    assert makemore(*SEARCH, *space).code == 0
    assert sorted(trial.params["task.level"] for trial in trials(workdir)) == [1, 2, 3, 4, 5, 6]
    assert {trial.state.name for trial in trials(workdir)} == {"COMPLETE"}
    answer = makemore(*SEARCH, *space, "study.name=b", "sampler=random")
    assert "settings; each is trained once" not in answer.err
    assert sorted(trial.params["task.level"] for trial in trials(workdir, "b")) == [1, 2, 3, 4, 5, 6]


def test_a_study_that_was_started_with_too_few_trials_is_filled_up(makemore: Makemore, workdir: Path) -> None:
    space = ("task.level=1,2,3,4,5,6",)
    assert makemore(*SEARCH, *space, "study.n_trials=2").code == 0
    answer = makemore(*SEARCH, *space, "study.n_trials=6")
    assert answer.code == 0, answer.err
    assert sorted(trial.params["task.level"] for trial in trials(workdir)) == [1, 2, 3, 4, 5, 6]
    assert "6 of 6 trials were done before; nothing was trained" in makemore(*SEARCH, *space, "study.n_trials=9").err


def test_a_space_with_conditions_is_tried_in_full(makemore: Makemore, workdir: Path) -> None:
    condition = ("task.level=1,2", "task.noise=0.1,0.2", "+space.conditions={task.noise: {task.level: 2}}")
    assert makemore(*SEARCH, *condition).code == 0
    found = sorted(json.dumps(trial.params, sort_keys=True) for trial in trials(workdir))
    assert found == [
        '{"task.level": 1}',
        '{"task.level": 2, "task.noise": 0.1}',
        '{"task.level": 2, "task.noise": 0.2}',
    ]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_two_workers_never_train_a_setting_twice(makemore: Makemore, workdir: Path, sampler: str) -> None:
    space = ("task.level=range(1,6)", "task.noise=0.1,0.2,0.3", f"sampler={sampler}", "pruner=none")
    two = [word for word in SEARCH if word != "study.workers=1"] + ["study.workers=2"]
    assert makemore(*two, *space, "study.n_trials=10").code == 0
    assert makemore(*two, *space, "study.n_trials=99").code == 0
    settings = Counter(json.dumps(trial.params, sort_keys=True) for trial in trials(workdir))
    assert len(settings) == 15
    assert set(settings.values()) == {1}


@pytest.mark.parametrize(("gap", "verdict"), [(0.01, "better"), (0.005, "undecided")])
def test_settings_are_compared_over_seeds_and_items(
    makemore: Makemore, workdir: Path, gap: float, verdict: str
) -> None:
    """Every item's loss moves alike with the seed: the interval is that of Welch's test on the seeds' losses."""
    from scipy.stats import ttest_ind

    assert makemore(*SEARCH, f"task.level=1,{1 + gap}", "seed=0,1,2,3").code == 0
    better, baseline = trials(workdir)[0], trials(workdir)[1]
    if better.params["task.level"] > baseline.params["task.level"]:
        better, baseline = baseline, better
    row, other = settings_of(makemore, f"baseline={baseline.number}")
    losses = [[loss_of(level, seed) for seed in range(4)] for level in (1, 1 + gap)]
    welch = ttest_ind(*losses, equal_var=False).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(-gap, rel=1e-4)
    assert [row["difference_low"], row["difference_high"]] == pytest.approx([welch.low, welch.high], rel=1e-4)
    assert row["verdict"] == verdict
    assert other["difference"] is None
    far = settings_of(makemore, "study.name=a", f"baseline={better.number}")[1]
    assert far["difference"] == pytest.approx(gap, rel=1e-4)


def test_the_answer_stands_in_eighty_columns(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ends of the interval, the verdict and what the settings are; the summary gives the command."""
    monkeypatch.setenv("COLUMNS", "80")
    answer = makemore(*SEARCH, "task.level=1,1.01", "study.seeds=3")
    runner_up = max(trials(workdir), key=lambda trial: trial.value or 0.0).number
    [command] = [line for line in answer.out.splitlines() if "by=setting" in line]
    assert command.endswith(f"compare study.name=a by=setting baseline={runner_up}")
    head = makemore("compare", "study.name=a", "by=setting", f"baseline={runner_up}").out.splitlines()[1]
    assert head.split()[-5:] == ["diff", "diff_low", "diff_high", "verdict", "level"]


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("0", "baseline is 0; trial 0 of study a is PRUNED, and only a complete trial has losses to pair: 1"),
        ("99", "baseline is 99; study a has trials 0 to 1"),
    ],
)
def test_a_baseline_that_has_no_losses_is_named_with_what_has_some(
    makemore: Makemore, workdir: Path, baseline: str, message: str
) -> None:
    given = "+space.warm_start=[{task.level: 2.0},{task.level: 1.0}]"
    words = ("task=diverges", "task.limit=1.5", "task.level=interval(0.5,3.0)", given, "study.n_trials=2")
    assert makemore(*SEARCH, *words).code == 0
    answer = makemore("compare", "study.name=a", f"baseline={baseline}")
    assert answer.code == 2
    assert message in answer.err


def test_a_setting_with_one_seed_has_a_difference_without_an_interval(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*SEARCH, "task.level=1,2").code == 0
    worst = max(trials(workdir), key=lambda trial: trial.value or 0.0).number
    row, _ = settings_of(makemore, f"baseline={worst}")
    assert (row["difference"], row["difference_low"], row["verdict"]) == (pytest.approx(-1), None, None)


def test_the_winner_of_several_seeds_is_sampled_and_looked_at(makemore: Makemore, workdir: Path) -> None:
    tiny = ("train.steps=20", "train.evaluations=2", "study.workers=1", "study.confirm.top=0", "space=none")
    assert makemore("sweep", "study.name=a", *tiny, "model.hidden_neurons=4,8", "study.seeds=2").code == 0
    assert len(makemore("sample", "study.name=a", "n=3").out.splitlines()) >= 3
    answer = makemore("final-test", "study.name=a", "final_test.confirm=true")
    assert answer.code == 0, answer.err
