"""What stopped people: requests that are nearly right, lists that are nearly words, studies that come to nothing."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Answer, Makemore
from fake_tasks import FAKE

INSTANT = ("sweep", *FAKE, "task=instant", "study.name=a", "study.workers=1", "study.confirm.top=0")
TINY = ("train.steps=20", "train.evaluations=2", "model.hidden_neurons=8", "train.batch_size=8")
SMALL = ("sweep", *TINY, "study.name=a", "study.workers=1", "study.confirm.top=0")


def trials(folder: Path) -> list[Any]:
    return optuna.load_study(study_name="a", storage=f"sqlite:///{folder}/mlruns/study.db").trials


def remarks(answer: Answer) -> list[str]:
    """The lines on standard error that are no progress."""
    return [line for line in answer.err.splitlines() if line.startswith("makemore: ")]


@pytest.mark.parametrize("words", ["3,3,3", "3,3.0", "choice(3,3)", "range(3,4)", "interval(3,3)", "'3','3'"])
def test_equal_choices_are_one_setting_which_is_trained_once(makemore: Makemore, workdir: Path, words: str) -> None:
    if "'" in words:
        answer = makemore(*SMALL, "space=none", f"optimizer={words.replace('3', 'sgd')}")
    else:
        answer = makemore(*INSTANT, f"task.level={words}")
    assert answer.code == 0, answer.err
    [trial] = trials(workdir)
    assert (trial.state.name, trial.params) == ("COMPLETE", {})
    assert "is the only setting, which is trained once" in answer.err


def test_a_key_that_is_left_with_one_value_is_fixed_beside_others(makemore: Makemore, workdir: Path) -> None:
    conditional = (
        "schedule=step",
        "schedule.decay_at=0.5,0.5",
        "+space.conditions={schedule.decay_at: {schedule: step}}",
    )
    words = ("model.block_size=3,3", "model.embedding_size=4,4,5,5", *conditional)
    answer = makemore(*SMALL, "space=none", "study.n_trials=2", *words)
    assert answer.code == 0, answer.err
    assert {tuple(trial.params) for trial in trials(workdir)} == {("model.embedding_size",)}
    assert {trial.distributions["model.embedding_size"].choices for trial in trials(workdir)} == {(4, 5)}


@pytest.mark.parametrize("words", ['"sgd","adamw"', "'sgd','adamw'", "choice('sgd',\"adamw\")", "sgd,'adamw'"])
def test_quoted_choices_mean_what_they_mean_without_quotes(makemore: Makemore, workdir: Path, words: str) -> None:
    answer = makemore(*SMALL, "space=none", "study.n_trials=1", f"optimizer={words}")
    assert answer.code == 0, answer.err
    assert trials(workdir)[0].distributions["optimizer"].choices == ("sgd", "adamw")


def test_a_space_in_a_file_may_quote_its_choices(makemore: Makemore, workdir: Path) -> None:
    (workdir / "conf" / "space").mkdir(parents=True)
    text = "# @package _global_\nspace:\n  name: own\n  params:\n    optimizer: choice(\"sgd\", 'adamw')\n"
    (workdir / "conf" / "space" / "own.yaml").write_text(text)
    own = ("sweep", "--config-dir", str(workdir / "conf"), *SMALL[1:], "space=own")
    answer = makemore(*own, "study.n_trials=1")
    assert answer.code == 0, answer.err
    assert trials(workdir)[0].distributions["optimizer"].choices == ("sgd", "adamw")


@pytest.mark.parametrize("command", ["train", "sweep", "compare", "ladder", "sample", "final-test", "looks", "ui"])
def test_a_word_for_a_group_is_answered_with_the_key_that_was_meant(
    makemore: Makemore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for given, meant in (("study=first", "study.name=first"), ("tracking=x.db", "tracking.uri=x.db")):
        answer = makemore(command, given)
        group, _, value = given.partition("=")
        refusal = f"makemore: {group} is {value}; it must be a group of keys: did you mean {meant}?\n"
        assert (answer.code, answer.out, answer.err) == (2, "", refusal)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["sweep", "train=500"], "train.steps=500"),
        (["sweep", "study.confirm=3"], "study.confirm.top=3"),
        (["final-test", "final_test=again"], "final_test.reason=again"),
        (["lr-find", "lr_find=lr.png"], "lr_find.picture=lr.png"),
        (["ladder", "ladder=steps.png"], "ladder.picture=steps.png"),
        (["sweep", "study=a,b"], "study.name=a,b"),
        (["train", "study=null"], "study.name=..."),
        (["compare", "study=first", "study.storage=sqlite:///x.db"], "study.name=first"),
    ],
)
def test_every_group_of_keys_names_one_of_them(
    makemore: Makemore, workdir: Path, arguments: list[str], meant: str
) -> None:
    answer = makemore(*arguments)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"did you mean {meant}?" in answer.err
