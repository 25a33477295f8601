"""Passwords in addresses: used, and neither stored nor shown."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Makemore, Server, call, fetch, own_environment, start
from fake_tasks import FAKE
from omegaconf import OmegaConf
from sqlalchemy.engine import make_url

from sweeps.errors import hide_passwords
from sweeps.tracking.store import MlflowClient

SECRET = "xyzzy42"
STUDY = ("sweep", *FAKE, "task=instant", "task.level=1.0,2.0", "study.name=a", "study.n_trials=2")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://me:xyzzy42@db:5432/x", "postgresql+psycopg://me:***@db:5432/x"),
        ("no http://me:xyzzy42@a/b, nor ftp://you:x:y/z@c", "no http://me:***@a/b, nor ftp://you:***@c"),
        ("postgresql://db/x?user=me&password=xyzzy42&a=b", "postgresql://db/x?user=me&password=***&a=b"),
        ("'postgresql://db/x?sslpassword=xyzzy42'", "'postgresql://db/x?sslpassword=***'"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
        ("models:/makemore@champion", "models:/makemore@champion"),
    ],
)
def test_passwords_in_a_text_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert hide_passwords(text) == shown


def holders(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", pytest.param("submitit_local", marks=pytest.mark.nightly)])
def test_a_study_on_servers_stores_and_prints_no_password(
    tmp_path: Path, postgresql: tuple[str, str], launcher: str
) -> None:
    study, uri = (make_url(url).set(password=SECRET).render_as_string(hide_password=False) for url in postgresql)
    where = (f"study.storage='{study}'", f"tracking.uri='{uri}'")
    environment = {**own_environment(), "STUDY": study, "RUNS": uri}
    if launcher != "basic":  # it keeps what it sends to its jobs
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
        where = ("study.storage='${oc.env:STUDY}'", "tracking.uri='${oc.env:RUNS}'")
    folder = tmp_path / "project"
    folder.mkdir()
    for total in (2, 3):
        command = (*STUDY, "task.level=1.0,2.0,3.0", f"study.n_trials={total}", f"hydra/launcher={launcher}", *where)
        process = start(*command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        assert SECRET not in out + errors
    assert holders(folder) == []
    for name in ("config", "hydra", "overrides"):  # as Hydra writes them, but for the password
        OmegaConf.load(folder / f"mlruns/outputs/a/0/.hydra/{name}.yaml")
    config: Any = OmegaConf.load(folder / "mlruns/outputs/a/0/.hydra/config.yaml")
    assert launcher != "basic" or "***" in config.study.storage
    for run in MlflowClient(tracking_uri=postgresql[1]).search_runs(["1"]):
        assert SECRET not in str(run.to_dictionary())
    for command in (("compare", "format=csv"), ("looks",)):
        assert SECRET not in call(folder, *command, f"study.storage='{study}'", f"tracking.uri='{uri}'")


@pytest.mark.parametrize("option", [("--cfg", "job"), ("--cfg", "all"), ("--info",), ("--help",)])
def test_an_explanation_shows_no_password(makemore: Makemore, workdir: Path, option: tuple[str, ...]) -> None:
    answer = makemore("sweep", f"study.storage='postgresql+psycopg://me:{SECRET}@127.0.0.1:9/db'", *option)
    assert SECRET not in answer.out + answer.err


def test_a_password_of_an_own_task_is_not_recorded(makemore: Makemore, workdir: Path) -> None:
    address = f"+task.address='postgresql://me:{SECRET}@db/x'"
    answer = makemore("train", *FAKE, "task=fails", "task.at=null", address)
    assert answer.code == 2  # the task has no such key
    answer = makemore("train", *FAKE, "task=houses", f"task.log='ftp://me:{SECRET}@db/x'")
    assert SECRET not in answer.out + answer.err
    assert holders(workdir) == []


@pytest.mark.slow
def test_the_address_of_a_server_is_shown_without_its_password(tmp_path: Path, mlflow_server: Server) -> None:
    address = mlflow_server.address.replace("http://", f"http://me:{SECRET}@")
    call(tmp_path, *STUDY, f"tracking.uri={address}")
    shown = call(tmp_path, "ui", f"tracking.uri={address}")
    assert f"the MLflow UI is at {mlflow_server.address}\n" in shown
    assert SECRET not in shown
    assert holders(tmp_path) == []
    mlflow_server.send(signal.SIGKILL)
    mlflow_server.process.wait(timeout=30)
    process = start("compare", f"tracking.uri={address}", cwd=tmp_path, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert SECRET not in errors


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="there is no /proc that lists command lines")
def test_no_command_line_of_a_server_that_we_start_has_the_password(
    tmp_path: Path, postgresql: tuple[str, str]
) -> None:
    uri = make_url(postgresql[1]).set(password=SECRET).render_as_string(hide_password=False)
    call(tmp_path, "train", *FAKE, "task=instant", "task.level=1.0", f"tracking.uri='{uri}'")
    environment = {**own_environment(), "ADDRESS": uri}
    command = ("ui", "tracking.uri='${oc.env:ADDRESS}'")
    process = start(*command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split(" is at ")[1].split()[0]
        fetch(f"{address}/health")
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert any(b"mlflow" in line and b"server" in line for line in lines)
        assert not any(SECRET.encode() in line for line in lines)
    finally:
        process.terminate()
        process.communicate(timeout=30)
