"""Widening a space: only where most of the best trials press against an end that can be moved; and going on there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Makemore
from fake_tasks import FAKE
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, create_trial

from sweeps.search.space import Space
from sweeps.search.sweep_words import parse_overrides, to_distribution
from sweeps.search.widen import find_widenings

SWEEP = ("sweep", *FAKE, "task=instant", "study.workers=1", "study.confirm.top=0")


def space_of(words: str) -> Space:
    [override] = parse_overrides([f"key={words}"])
    return Space({"key": to_distribution(override)}, [], {}, None, [])


def ranked(distribution: BaseDistribution, values: list[Any]) -> list[FrozenTrial]:
    """Complete trials, the lowest loss first."""
    return [
        create_trial(params={"key": value}, distributions={"key": distribution}, value=float(loss))
        for loss, value in enumerate(values)
    ]


def widened(words: str, values: list[Any], finished: int = 16, allowed: float = 1e9) -> list[str]:
    space = space_of(words)
    trials = ranked(space.distributions["key"], values)
    found = find_widenings(space, trials, finished, {"key": values[0]}, lambda setting: setting["key"] <= allowed)
    return [widening.override for widening in found]


@pytest.mark.parametrize(
    ("words", "values", "expected"),
    [
        ("range(2, 7)", [6, 6, 6, 3], "int(interval(2,8))"),
        ("range(10, 60, 10)", [50, 50, 50, 50], "range(10,80,10)"),
        ("int(interval(4, 8))", [4, 4, 4, 4], "int(interval(2,8))"),
        ("tag(log, int(interval(10, 1000)))", [990, 900, 950, 800], "tag(log,int(interval(10,10000)))"),
        ("tag(log, interval(1e-3, 1e-1))", [1.1e-3, 1e-3, 1.2e-3, 1.3e-3], "tag(log,interval(0.0001,0.1))"),
        ("interval(0.0, 1.0)", [0.99, 0.95, 0.98, 0.2], "interval(0.0,1.5)"),
        ("range(0.1, 0.6, 0.1)", [0.5, 0.5, 0.5, 0.5], "range(0.1,0.8,0.1)"),
        ("choice(32, 64, 128)", [128, 128, 128, 64], "32,64,128,256"),
        ("choice(1, 2, 3)", [3, 3, 3, 3], "1,2,3,4"),
        ("choice(32, 64, 128)", [32, 32, 32, 32], "16,32,64,128"),
    ],
)
def test_a_range_goes_on_where_the_best_trials_press_against_its_end(
    words: str, values: list[Any], expected: str
) -> None:
    assert widened(words, values) == [f"key={expected}"]
    [override] = parse_overrides([f"key={expected}"])
    wider, old = to_distribution(override), space_of(words).distributions["key"]
    if isinstance(old, optuna.distributions.CategoricalDistribution):
        assert set(old.choices) < set(wider.choices)  # type: ignore[attr-defined]
    else:
        assert wider.low <= old.low < old.high <= wider.high  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("int(interval(1, 9))", [1, 1, 1, 1]),  # there is no size 0
        ("interval(0.0, 0.5)", [0.001, 0.002, 0.003, 0.004]),  # a dropout cannot be negative
        ("interval(0.0, 0.5)", [0.0, 0.0, 0.0, 0.0]),
        ("choice(0, 1, 2)", [0, 0, 0, 0]),
        ("choice(a, b, c)", ["c", "c", "c", "c"]),
        ("choice(true, false)", [True, True, True, True]),
        ("range(2, 20)", [19, 5, 6, 7]),  # only the winner is there
        ("range(2, 20)", [10, 19, 19, 19]),  # the winner is not there
    ],
)
def test_a_range_that_cannot_or_need_not_go_on_is_left_alone(words: str, values: list[Any]) -> None:
    assert widened(words, values) == []


def test_few_trials_and_values_that_no_run_takes_are_no_reason_to_widen() -> None:
    assert widened("range(2, 20)", [19, 19, 19, 19], finished=11) == []
    assert widened("range(2, 20)", [19, 19], finished=16) == []
    assert widened("interval(0.0, 1.0)", [0.99, 0.98, 0.97, 0.99], allowed=1.0) == []


def trials(folder: Path, name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/mlruns/study.db").trials


def test_the_command_that_is_printed_goes_on_in_the_wider_space(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*SWEEP, "study.name=a", "task.level=interval(1.0,2.0)", "study.n_trials=20")
    assert answer.code == 0, answer.err
    assert re.search(r"task\.level=1.* is at the lower end of its range, as are \d of the best 5 trials", answer.out)
    [command] = [line for line in answer.out.splitlines() if "study.start_from=a" in line]
    words = shlex.split(command.strip())
    assert "task.level=interval(0.5,2.0)" in words
    position = words.index("sweep")
    go_on = makemore(*SWEEP[:3], *words[position + 1 :], "study.n_trials=6", "space=none")
    assert go_on.code == 0, go_on.err
    assert "the sampler learns from 20 trials of study a; they are not counted" in go_on.err
    found = trials(workdir, "a-wider")
    taken = [trial for trial in found if "taken_from" in trial.user_attrs]
    own = [trial for trial in found if "taken_from" not in trial.user_attrs]
    assert (len(taken), len(own)) == (20, 6)
    assert {trial.user_attrs["taken_from"] for trial in taken} == {f"a #{number}" for number in range(20)}
    best = min(trials(workdir, "a"), key=lambda trial: trial.value or 0.0)
    assert own[0].params == best.params
    rows = json.loads(makemore("compare", "study.name=a-wider", "format=json").out)
    assert sorted(row["trial"] for row in rows) == [trial.number for trial in own]
    assert f"winner: trial {min(own, key=lambda trial: trial.value or 0.0).number}," in go_on.out


def test_a_study_goes_on_with_or_without_naming_where_it_started(makemore: Makemore, workdir: Path) -> None:
    space = ("task.level=interval(1.0,2.0)",)
    assert makemore(*SWEEP, "study.name=a", *space, "study.n_trials=3").code == 0
    started = (*SWEEP, "study.name=b", *space, "study.start_from=a")
    assert makemore(*started, "study.n_trials=2").code == 0
    assert makemore(*started, "study.n_trials=3").code == 0
    assert makemore(*SWEEP, "study.name=b", *space, "study.n_trials=4").code == 0
    assert len(trials(workdir, "b")) == 3 + 4
    again = makemore(*SWEEP, "study.name=a", *space, "study.start_from=b")
    assert again.code == 2
    assert "study.start_from is b; study a was started without it" in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study.start_from=nope"], "study.start_from is nope; study.storage has no such study"),
        (["study.start_from=a", "data.split_seed=1"], "data dev differs; data.split_seed was 42, is 1"),
        (["study.start_from=a", "study.seeds=2"], "seed was 0, is 0, 1"),
        (["study.start_from=a", "task.level=interval(8.0,9.0)"], "none of its finished trials lies in this space"),
        (["study.start_from='a b'"], "study.start_from is 'a b'; it must be 1 to 100 of"),
    ],
)
def test_a_start_that_gives_nothing_is_refused(
    makemore: Makemore, workdir: Path, words: list[str], message: str
) -> None:
    space = ("task.level=interval(1.0,2.0)", "study.n_trials=3")
    assert makemore(*SWEEP, "study.name=a", *space).code == 0
    answer = makemore(*SWEEP, "study.name=b", *space, *words)
    assert answer.code == 2
    assert message in answer.err
    assert optuna.get_all_study_names(f"sqlite:///{workdir}/mlruns/study.db") == ["a"]


def test_what_was_fixed_before_may_be_searched_now_and_the_other_way_round(makemore: Makemore, workdir: Path) -> None:
    old = ("task=seeded", "task.noise=0.01", "task.level=1,2,3", "sampler=grid")
    assert makemore(*SWEEP, *old, "study.name=a").code == 0
    wider = ("task=seeded", "task.noise=interval(0.0,0.1)", "task.level=1,2,3", "study.n_trials=2")
    assert makemore(*SWEEP, *wider, "study.name=b", "study.start_from=a").code == 0
    taken = [trial.params for trial in trials(workdir, "b") if "taken_from" in trial.user_attrs]
    assert sorted(params["task.level"] for params in taken) == [1, 2, 3]
    assert {params["task.noise"] for params in taken} == {0.01}
    narrower = ("task=seeded", "task.noise=0.01", "task.level=2,1.5", "study.n_trials=2", "study.name=c")
    assert makemore(*SWEEP, *narrower, "study.start_from=a").code == 0
    taken = [trial.params for trial in trials(workdir, "c") if "taken_from" in trial.user_attrs]
    assert taken == [{"task.level": 2}]
