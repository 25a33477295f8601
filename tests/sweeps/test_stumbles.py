"""What stopped people: requests that are nearly right, lists that are nearly words, studies that come to nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Answer, Makemore, call
from fake_tasks import FAKE

FAKE_STUDY = ("sweep", *FAKE, "study.name=a", "study.workers=1", "study.confirm.top=0")
INSTANT = (*FAKE_STUDY, "task=instant")
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


def test_a_study_with_nothing_left_to_do_says_so_and_what_had_no_effect(makemore: Makemore, workdir: Path) -> None:
    study = (*INSTANT, "task.level=1.0,2.0,3.0", "study.confirm.top=1", "study.confirm.seeds=1")
    first = makemore(*study, "study.n_trials=2", "sampler=random")
    assert (first.code, remarks(first)) == (0, [])
    again = makemore(*study, "study.n_trials=2", "sampler=random", "study.seed=3")
    assert again.code == 0, again.err
    assert remarks(again) == [
        "makemore: 2 of 2 trials were done before; nothing was trained; a higher study.n_trials goes on",
        "makemore: sampler, study.seed have no effect on trials that are done",
    ]
    fewer = makemore(*study, "study.n_trials=1")
    assert remarks(fewer) == [
        "makemore: 2 of 2 trials were done before (study.n_trials is 1); nothing was trained; a higher study.n_trials "
        "goes on"
    ]
    more = makemore(*study, "study.n_trials=3", "sampler=random")
    assert (more.code, remarks(more), len(trials(workdir))) == (0, [], 3)


WARM = "space.warm_start=[{name: my setting, task.level: LEVEL}]"


def test_a_study_of_given_settings_alone_searched_nothing(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*INSTANT, "task.level=interval(1,2)", WARM.replace("LEVEL", "1.5"), "study.n_trials=1")
    assert answer.code == 0, answer.err
    assert "nothing was searched: every trial is a setting that was given; a higher study.n_trials" in answer.out


def test_a_winner_that_was_given_is_not_the_searchs(makemore: Makemore, workdir: Path) -> None:
    warm = WARM.replace("LEVEL", "1.0")
    answer = makemore(*INSTANT, "task.level=interval(1.0,2.0)", warm, "study.n_trials=4")
    assert answer.code == 0, answer.err
    assert "the winner was given in space.warm_start (my setting); the search drew nothing better" in answer.out
    best, second = sorted(trial.value for trial in trials(workdir))[:2]
    assert f"{second - best:.4f} below trial " in answer.out
    assert ", the search's best (" in answer.out


def test_a_winner_that_the_search_drew_is_compared_with_what_was_given(makemore: Makemore, workdir: Path) -> None:
    warm = WARM.replace("LEVEL", "2.0")
    answer = makemore(*INSTANT, "task.level=interval(1.0,2.0)", warm, "study.n_trials=4")
    assert answer.code == 0, answer.err
    assert "the search drew the winner" in answer.out
    losses = [trial.value for trial in trials(workdir)]
    assert f"{losses[0] - min(losses):.4f} below trial 0, my setting ({losses[0]:.4f}" in answer.out


def test_trials_that_all_fail_alike_stop_after_three(makemore: Makemore, workdir: Path) -> None:
    fails = (*FAKE_STUDY, "task=fails", "task.at=null", "task.level=interval(1,9)", "study.n_trials=12")
    answer = makemore(*fails)
    assert answer.code == 1
    assert [trial.state.name for trial in trials(workdir)] == ["FAIL"] * 3
    assert "no more were started (OSError: the disk is full)" in remarks(answer)[-1]
    assert "with the same command again" in remarks(answer)[-1]
    assert makemore(*fails).code == 1
    assert len(trials(workdir)) == 6  # the same command tries other settings


def test_trials_that_all_diverge_stop_after_three(makemore: Makemore, workdir: Path) -> None:
    widths = f"model.hidden_neurons={','.join(map(str, range(8, 20)))}"
    diverges = ("schedule=constant", "schedule.lr=1e9", "optimizer=sgd", "study.n_trials=12")
    answer = makemore(*SMALL, "space=none", *diverges, widths)
    assert answer.code == 1
    assert [trial.state.name for trial in trials(workdir)] == ["PRUNED"] * 3
    assert "try a smaller schedule.lr" in remarks(answer)[-1]


def test_a_search_over_what_makes_trials_diverge_is_given_ten(makemore: Makemore, workdir: Path) -> None:
    diverges = ("schedule=constant", "schedule.lr=interval(1e8,1e9)", "optimizer=sgd", "study.n_trials=12")
    answer = makemore(*SMALL, "space=none", *diverges)
    assert answer.code == 1
    assert len(trials(workdir)) == 10


def test_three_failures_behind_a_complete_trial_stop_nothing(makemore: Makemore, workdir: Path) -> None:
    makes_first = (*FAKE_STUDY, "task=diverges", "task.level=choice(1.0,5.0,6.0,7.0,8.0,9.0)", "study.n_trials=6")
    warm = WARM.replace("LEVEL", "1.0")
    answer = makemore(*makes_first, warm, "sampler=random")
    assert answer.code == 0, answer.err
    assert len(trials(workdir)) == 6


@pytest.mark.parametrize(("kind", "make"), [("a named pipe", os.mkfifo), ("a folder", os.mkdir), ("a device", None)])
def test_what_is_no_file_of_words_is_refused_at_once(
    makemore: Makemore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, make: Callable[[str], None] | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = "words" if make else "/dev/zero"
    if make:
        make(path)
    for command in ("train", "sweep"):
        answer = makemore(command, "data=file", f"data.path={path}")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert f"data.path is {path}, {kind}; it must be a file" in answer.err


NAMES = [
    f"{first}{second}{third}" for first in "bdgklmnprst" for second in "aeiou" for third in ("n", "l", "ra", "no")
] * 6


@pytest.mark.parametrize(
    ("lines", "remark"),
    [
        (NAMES, None),
        (
            ["id,name", *(f"{place},{name}" for place, name in enumerate(NAMES))],
            "looks like a table: 1321 of 1321 lines",
        ),
        ([f"{name};x" for name in NAMES], "have semicolons"),
        ([f"x\t{name}" for name in NAMES], "have tabs"),
        ([f'"{name}"' for name in NAMES], "has quotes around 1320 of 1320 words"),
        ([f"{name} {place}" for place, name in enumerate(NAMES)], "has digits in 1320 of 1320 lines"),
        (["Name", *NAMES], "begins with the line Name, which looks like a header"),
        (["caf\u00e9", "cafe\u0301", *NAMES], "(1 words in NFC, 1 in NFD)"),
        (NAMES[:300], "leaves 30 dev words, fewer than 100"),
    ],
)
def test_what_is_odd_about_a_list_is_one_line_before_training(
    makemore: Makemore, workdir: Path, lines: list[str], remark: str | None
) -> None:
    (workdir / "words.txt").write_text("\n".join(lines), encoding="utf-8")
    answer = makemore("train", *TINY, "data=file", "data.path=words.txt", "data.split=lecture")
    assert answer.code == 0, answer.err
    assert len(remarks(answer)) == (remark is not None), answer.err
    assert (remark or "") in answer.err
    assert answer.out.startswith("dev loss ")


def test_a_study_says_once_what_is_odd_about_its_list(makemore: Makemore, workdir: Path) -> None:
    (workdir / "words.txt").write_text("\n".join(NAMES[:300]))
    study = (*SMALL, "data=file", "data.path=words.txt", "study.n_trials=2", "study.workers=2")
    answer = makemore(*study)
    assert answer.code == 0, answer.err
    assert answer.err.count("dev words, fewer than 100") == 1
    assert "fewer than 100" not in makemore(*study).err  # nothing is trained


@pytest.mark.parametrize("module", ["sweeps", "sweeps.cli", "makemore"])
def test_python_m_is_the_console_script(tmp_path: Path, module: str) -> None:
    command = [sys.executable, "-m", module]
    shown = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "makemore sweep" in shown.stdout
    refused = subprocess.run(
        [*command, "compare", "study=first"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, "did you mean study.name=first?" in refused.stderr) == (2, True)


def test_letters_that_a_terminal_lacks_are_escaped(workdir: Path) -> None:
    (workdir / "towns.txt").write_text("\n".join(f"город{chr(1072 + place)}" for place in range(30)), encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    told = " ".join(call(workdir, "train", *TINY, "data=file", "data.path=towns.txt").split())
    run = told.partition("run ")[2][:32]
    command = [sys.executable, "-m", "sweeps", "sample", f"run={run}", "n=3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\\u04" in done.stdout
