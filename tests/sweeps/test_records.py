import json
from pathlib import Path

import pytest
from conftest import Makemore, call

from sweeps.databases import hide_password, resolve_url
from sweeps.errors import RequestError

SECRET = "postgresql+psycopg://me:xyzzy42@127.0.0.1:9/db"


def test_a_relative_sqlite_path_becomes_absolute_and_nothing_is_written(workdir: Path) -> None:
    assert resolve_url("key", "sqlite:///a/b.db", "studies") == f"sqlite:///{workdir}/a/b.db"
    assert not (workdir / "a").exists()


def test_no_message_shows_a_password() -> None:
    assert hide_password(SECRET) == "postgresql+psycopg://me:***@127.0.0.1:9/db"
    with pytest.raises(RequestError) as error:
        resolve_url("study.storage", SECRET, "studies")
    assert "does not answer" in str(error.value)
    assert "xyzzy42" not in str(error.value)


def test_no_password_is_shown_in_a_url_that_cannot_be_read(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("sweep", "study.storage='postgresql+psycopg://me:xyzzy42@127.0.0.1:54x/db'")
    assert answer.code == 2
    assert "xyzzy42" not in answer.err


def test_no_record_of_a_run_holds_a_password(makemore: Makemore, workdir: Path) -> None:
    # A single run needs no study's storage, but its recorded config names it.
    assert makemore("train", f"study.storage='{SECRET}'", "train.steps=5", "train.evaluations=1").code == 0
    [config] = (workdir / "mlruns/artifacts").rglob("config.yaml")
    assert "me:***@127.0.0.1" in config.read_text()
    assert not any(b"xyzzy42" in path.read_bytes() for path in (workdir / "mlruns").rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_study_and_its_runs_can_be_kept_in_postgresql(tmp_path: Path, postgresql: tuple[str, str]) -> None:
    study, uri = postgresql[0], f"tracking.uri='{postgresql[1]}'"
    tiny = ("pruner=none", "train.steps=20", "train.evaluations=2")
    for total in (2, 3):
        call(tmp_path, "sweep", "study.name=a", f"study.n_trials={total}", f"study.storage='{study}'", uri, *tiny)
    table = json.loads(call(tmp_path, "compare", "study.name=a", "format=json", uri))
    assert sorted(row["trial"] for row in table) == [0, 1, 2]
    assert not list(tmp_path.rglob("*.db"))
