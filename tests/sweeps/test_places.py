"""Records in folders with any name, moved, copied, half made, or asked for what they refuse."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Makemore, call, fetch, start

from sweeps.databases import close_databases

TINY = ("study.confirm.top=0", "train.steps=20", "train.evaluations=2", "model.hidden_neurons=4,8", "pruner=none")
SWEEP = ("sweep", "study.name=a", "study.workers=1", *TINY)
AWKWARD = "josé 100% größe p#q?x=y %41 {0} 🙂"


def contents(folder: Path) -> dict[str, bytes]:
    """What each file holds; without the files that locks are held on, which are empty."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def awkward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty, with characters in its name that mean something in a URL."""
    folder = tmp_path / "in" / AWKWARD
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def old(workdir: Path, makemore: Makemore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a study of two trials; it is not the current folder."""
    folder = workdir / "old"
    folder.mkdir()
    (workdir / "mlruns").rename(folder / "mlruns")
    monkeypatch.chdir(folder)
    assert makemore(*SWEEP, "study.n_trials=2").code == 0
    close_databases()
    monkeypatch.chdir(workdir)
    return folder


@pytest.mark.slow
def test_any_name_of_the_folder_will_do_and_no_twin_of_it_appears(makemore: Makemore, awkward: Path) -> None:
    for command in (
        ("train", "train.steps=20"),
        ("sweep", "study.name=a", "study.workers=2", *TINY, "study.n_trials=3"),
        ("compare", "study.name=a", "baseline=0"),
        ("sample", "study.name=a", "n=3"),
    ):
        answer = makemore(*command)
        assert answer.code == 0, answer.err
    close_databases()
    assert list(awkward.parent.iterdir()) == [awkward]
    assert [path.name for path in awkward.iterdir()] == ["mlruns"]
    assert {path.name for path in awkward.glob("mlruns/[!.]*")} == {"artifacts", "mlflow.db", "outputs", "study.db"}


def test_a_message_shows_the_path_as_it_is(makemore: Makemore, awkward: Path) -> None:
    answer = makemore("compare")
    assert answer.code == 2
    shown = str(awkward).replace("%41", "%2541").replace("?", "%3F")  # so that it can be given as study.storage
    assert f"tracking.uri is sqlite:///{shown}/mlruns/mlflow.db; there are no records yet" in answer.err.replace(
        "sqlite:///mlruns", f"sqlite:///{shown}/mlruns"
    )
    assert list(awkward.iterdir()) == []


@pytest.mark.slow
def test_the_pages_of_any_folder_are_served(makemore: Makemore, awkward: Path) -> None:
    makemore(*SWEEP, "study.n_trials=2")
    table = json.loads(makemore("compare", "study.name=a", "format=json").out)
    files = f"/ajax-api/2.0/mlflow/artifacts/list?run_id={table[0]['run_id']}"
    for command, place, expected in (("ui", files, "weights.safetensors"), ("dashboard", "/api/studies", '"a"')):
        process = start(command, cwd=awkward, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        address = process.stdout.readline().split(" is at ")[1].split()[0]
        assert expected in fetch(address + place)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert list(awkward.parent.iterdir()) == [awkward]


def test_a_moved_project_keeps_its_files(old: Path) -> None:
    new = old.rename(old.with_name("new"))
    for command in (("sample", "n=3"), ("compare", "baseline=0")):
        call(new, *command, "study.name=a")
    call(new, *SWEEP, "study.n_trials=3")
    assert not old.exists()


def test_a_copied_project_leaves_the_original_alone(old: Path) -> None:
    copy = old.with_name("copy")
    shutil.copytree(old, copy)
    before = contents(old)
    call(copy, *SWEEP, "study.n_trials=3")
    call(copy, "sample", "study.name=a", "n=3")
    assert contents(old) == before
    assert len(list(copy.glob("mlruns/artifacts/*"))) == len(list(old.glob("mlruns/artifacts/*"))) + 1


def test_a_copy_without_files_writes_none_into_the_original(old: Path) -> None:
    copy = old.with_name("copy")
    shutil.copytree(old, copy, ignore=shutil.ignore_patterns("artifacts"))
    before = contents(old)
    call(copy, "train", "train.steps=20")
    call(copy, "sample", "study.name=a", "n=3")  # from the files of the original, which are only read
    assert contents(old) == before


@pytest.mark.extras
def test_no_column_of_a_moved_database_names_the_old_folder(
    old: Path, makemore: Makemore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where MLflow keeps locations in columns that are not mended, or no longer has those that are."""
    monkeypatch.chdir(old)
    assert makemore(*SWEEP, "study.n_trials=2", "study.pictures=false", "study.register=true").code == 0
    close_databases()
    assert places_that_name(old, old / "mlruns/mlflow.db") >= {
        "experiments.artifact_location",
        "runs.artifact_uri",
        "model_versions.source",
        "model_versions.storage_location",
        "logged_models.artifact_location",
    }
    monkeypatch.undo()
    new = old.rename(old.with_name("new"))
    call(new, "compare", "study.name=a")
    assert places_that_name(old, new / "mlruns/mlflow.db") == set()


def places_that_name(folder: Path, database: Path) -> set[str]:
    """The columns of a database, as table.column, in which a folder is named."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        columns = [(table, row[1]) for table in tables for row in connection.execute(f"pragma table_info({table})")]
        return {
            f"{table}.{column}"
            for table, column in columns
            if connection.execute(f"select 1 from {table} where instr({column}, ?)", (f"{folder}/",)).fetchone()
        }


def test_files_that_were_given_another_folder_stay_there(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ("train", "train.steps=20")
    assert makemore(*train, f"tracking.artifacts={workdir}/elsewhere").code == 0
    assert makemore(*train, "tracking.experiment=b").code == 0  # so that mlruns/artifacts has files, too
    assert makemore(*train).code == 0
    assert len(list(workdir.glob("elsewhere/*"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["CREATE TABLE registered_models", "INSERT INTO version_info"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_signal_while_the_databases_are_made_leaves_none_that_is_refused(
    tmp_path: Path, empty_records: Path, statement: str, number: signal.Signals
) -> None:
    if "version_info" in statement:  # a table of study.db; making mlflow.db takes seconds
        (tmp_path / "mlruns").mkdir()
        shutil.copy(empty_records, tmp_path / "mlruns/mlflow.db")
    code = f"""\
import os, signal, sys
from sqlalchemy import Engine, event
signal.signal(signal.SIGINT, signal.default_int_handler)
@event.listens_for(Engine, "before_cursor_execute")
def stop(connection, cursor, text, *rest):
    if {statement!r} in text:
        os.kill(os.getpid(), {int(number)})
from sweeps.cli import main
main()
"""
    command = [*SWEEP, "study.n_trials=1", "study.pictures=false", "study.register=false"]
    process = subprocess.run([sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, check=False)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), process.stderr
    name = "study.db" if "version_info" in statement else "mlflow.db"
    assert not (tmp_path / "mlruns" / name).exists()
    call(tmp_path, *command)
    assert {path.name for path in tmp_path.glob("mlruns/.*")} <= {
        ".mlflow.db.schema.lock",
        ".study.db.schema.lock",
        ".study.db.study.lock",
    }


def test_a_database_that_an_earlier_process_left_half_made_is_said_to_be_so(makemore: Makemore, workdir: Path) -> None:
    (workdir / "mlruns/mlflow.db").unlink()
    with closing(sqlite3.connect(workdir / "mlruns/mlflow.db")) as database, database:
        database.execute("create table experiments (experiment_id integer)")
    before = contents(workdir)
    for command in (("train", "train.steps=20"), ("compare",)):
        answer = makemore(*command)
        assert answer.code == 2
        assert "mlflow.db is only half made" in answer.err
        assert "move it away" in answer.err
        assert contents(workdir) == before


@pytest.mark.parametrize("missing", ["study.db", "mlflow.db"])
def test_a_study_whose_other_database_is_missing_is_refused_and_none_is_made(old: Path, missing: str) -> None:
    (old / "mlruns" / missing).rename(old / missing)
    before = contents(old)
    process = start(*SWEEP, "study.n_trials=3", cwd=old, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "study.name is a" in errors
    assert contents(old) == before


def test_a_study_under_other_settings_makes_no_experiment(old: Path) -> None:
    before = contents(old)
    for changed in ("train.batch_size=32", "tracking.experiment=other"):
        process = start(*SWEEP, "study.n_trials=3", changed, cwd=old, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.communicate(timeout=120)
        assert process.returncode == 2
        assert contents(old) == before


def test_a_refused_look_makes_no_study(old: Path) -> None:
    before = contents(old)
    process = start("final-test", "study.name=b", cwd=old, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.communicate(timeout=120)
    assert process.returncode == 2
    assert contents(old) == before


@pytest.mark.parametrize("kind", ["dangling", "looping", "file"])
@pytest.mark.parametrize(
    "place", ["mlruns", "mlruns/study.db", "mlruns/mlflow.db", "mlruns/artifacts", "mlruns/outputs"]
)
def test_what_stands_in_the_way_of_the_records_is_named_and_nothing_is_made(
    makemore: Makemore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    if kind == "file":
        path.write_text("not what it should be")
    else:
        path.symlink_to(path if kind == "looping" else tmp_path / "absent/place")
    before = sorted(tmp_path.rglob("*"))
    reads = [("compare",), ("looks",)] if place == "mlruns" else []
    for command in (SWEEP, *reads):
        answer = makemore(*command)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert place in answer.err
        assert "which does not exist: make that, or remove the link" in answer.err or kind == "file"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["compare", "sample", "ui", "dashboard", "looks"])
def test_reading_makes_nothing_of_empty_files(makemore: Makemore, workdir: Path, command: str) -> None:
    for name in ("mlflow.db", "study.db"):
        (workdir / "mlruns" / name).write_bytes(b"")
    answer = makemore(command)
    assert answer.code == 2
    assert "there are no records yet" in answer.err
    assert {path.name: path.stat().st_size for path in (workdir / "mlruns").iterdir()} == {
        "mlflow.db": 0,
        "study.db": 0,
    }
