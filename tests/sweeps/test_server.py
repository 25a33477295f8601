"""Runs recorded on a real MLflow server."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import call


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server with records of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "server").mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        cwd=tmp_path / "server",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the server did not start within a minute"
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
def test_a_study_is_recorded_on_a_server_with_its_files(tmp_path: Path, server: str) -> None:
    folder = tmp_path / "client"
    folder.mkdir()

    tiny = ("study.n_trials=2", "pruner=none", "train.steps=20", "train.evaluations=2")
    out = call(folder, "sweep", "study.name=a", f"tracking.uri={server}", *tiny)
    assert "View run" not in out
    assert len(json.loads(call(folder, "compare", "study.name=a", "format=json", f"tracking.uri={server}"))) == 2
    assert "are not among the training words" in call(folder, "sample", "n=3", f"tracking.uri={server}")
    assert not (folder / "mlruns" / "mlflow.db").exists()
    assert not (folder / "mlruns" / "artifacts").exists()
