"""`makemore studies`, and how a study answers its question."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Makemore
from fake_tasks import FAKE

from sweeps.databases import close_databases
from sweeps.tracking.store import MlflowClient

TOWNS = Path(__file__).parent.parent / "towns.txt"
FAKE_STUDY = ("sweep", *FAKE, "study.workers=1", "study.confirm.top=0")
TINY = ("train.steps=20", "train.evaluations=2", "train.batch_size=8", "study.workers=1")


def studies(makemore: Makemore, *arguments: str) -> list[dict[str, Any]]:
    answer = makemore("studies", "format=json", *arguments)
    assert answer.code == 0, answer.err
    found: list[dict[str, Any]] = json.loads(answer.out)
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    close_databases()
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_studies_are_listed_with_what_came_of_them(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(TOWNS, workdir / "towns.txt")
    words = ("study.name=towns", "data=file", "data.path=towns.txt", "study.n_trials=2", "pruner=none")
    assert makemore("sweep", *words, *TINY, "study.confirm.top=1", "study.confirm.seeds=1").code == 0
    assert makemore(*FAKE_STUDY, "study.name=fails", "task=fails", "task.at=1", "task.level=1.0,2.0,3.0").code == 0
    cut = ("task=interrupted", "task.at=4", "task.level=1.0,2.0,3.0")  # the runs before it are counted, too
    assert makemore(*FAKE_STUDY, "study.name=cut", *cut).code == 130
    assert makemore("final-test", "study.name=towns", "final_test.confirm=true").code == 0
    before = files_of(workdir)
    cut_short, failing, towns = studies(makemore)
    assert files_of(workdir) == before
    counts = ("complete", "pruned", "failed", "running", "cut_short")
    assert [towns[key] for key in ("study", "data", "task", "looked_at")] == [
        "towns",
        "towns.txt",
        "language_model",
        "yes",
    ]
    assert [towns[key] for key in counts] == [2, 0, 0, 0, 0]
    assert [failing[key] for key in ("study", "data", "task", "looked_at")] == ["fails", None, "fails", "no"]
    assert [failing[key] for key in counts] == [2, 0, 1, 0, 0]
    assert [cut_short[key] for key in counts] == [1, 0, 0, 0, 1]
    [confirmed] = [
        row for row in json.loads(makemore("compare", "studies=[towns]", "format=json").out) if row["confirmed_mean"]
    ]
    assert (towns["winner"], towns["confirmed_mean"]) == (confirmed["trial"], confirmed["confirmed_mean"])
    assert [row["study"] for row in studies(makemore, "study.name=fails")] == ["fails"]
    monkeypatch.setenv("COLUMNS", "80")
    table = makemore("studies").out.splitlines()
    assert max(map(len, table)) <= 80
    assert table[0].split()[:6] == ["study", "data", "complete", "pruned", "failed", "dev_loss"]
    assert [line.split()[0] for line in table[1:4]] == ["cut", "fails", "towns"]
    for form, begin in (("csv", "study,data,task,"), ("markdown", "| study"), ("html", "studies.html: 3 studies\n")):
        assert makemore("studies", f"format={form}").out.startswith(begin)
    assert "towns.txt" in (workdir / "studies.html").read_text()


def test_where_there_are_no_studies_a_line_says_so_and_nothing_is_made(
    makemore: Makemore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = makemore("studies")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "there is no study in sqlite:///mlruns/mlflow.db yet; start one with makemore sweep\n"
    named = makemore("studies", "study.name=narow")
    assert (named.code, named.out) == (2, "")
    assert "study.name is narow; sqlite:///mlruns/mlflow.db has no such study" in named.err
    assert list(tmp_path.iterdir()) == []


def test_without_the_database_of_studies_nobody_knows_about_looks(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*FAKE_STUDY, "study.name=a", "task=instant", "task.level=1.0,2.0").code == 0
    assert studies(makemore, "study.storage=sqlite:///elsewhere.db")[0]["looked_at"] == "unknown"
    assert not (workdir / "elsewhere.db").exists()


def test_a_wrong_format_is_refused(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("studies", "format=xml")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "makemore: format is xml; it must be table, csv, json, markdown or html\n"


def test_an_experiment_ends_with_the_answer_to_its_question(makemore: Makemore, workdir: Path) -> None:
    small = ("data=given_names", "study.seeds=2", "study.n_trials=2", "model.hidden_neurons=4,8")
    answer = makemore("sweep", "experiment=capacity", *small, *TINY)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    [run] = MlflowClient(f"sqlite:///{workdir}/mlruns/mlflow.db").search_runs(["1"], "tags.kind = 'study'")
    assert run.data.tags["mlflow.note.content"].startswith("When do more weights stop helping?\n")
    assert lines[1] == "question: When do more weights stop helping?"
    assert "the best 2 by mean dev loss over seeds, with the ends of its 95 % interval" in answer.out
    start = next(number for number, line in enumerate(lines) if "mean_low" in line)
    assert lines[start].split() == [
        "trials", "mean_dev_loss", "sd", "mean_low", "mean_high", "parameters", "seconds", "model.hidden_neurons",
    ]  # fmt: skip
    compared = makemore("compare", "study.name=capacity-given_names", "by=setting", "format=json")
    means = [f"{row['mean_dev_loss']:.4f}" for row in json.loads(compared.out)]
    assert [line.split()[1] for line in lines[start + 1 : start + 3]] == means
    assert any("compare study.name=capacity-given_names by=setting baseline=" in line for line in lines)
