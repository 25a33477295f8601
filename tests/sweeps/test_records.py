from pathlib import Path

import pytest
from conftest import Makemore

from sweeps.errors import RequestError
from sweeps.records import hide_password, resolve_url

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


def test_no_record_of_a_run_holds_a_password(makemore: Makemore, workdir: Path) -> None:
    # A single run needs no study's storage, but its recorded config names it.
    assert makemore("train", f"study.storage='{SECRET}'", "train.steps=5", "train.evaluations=1").code == 0
    [config] = (workdir / "mlruns/artifacts").rglob("config.yaml")
    assert "me:***@127.0.0.1" in config.read_text()
    assert not any(b"xyzzy42" in path.read_bytes() for path in (workdir / "mlruns").rglob("*") if path.is_file())
