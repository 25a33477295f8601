"""The registered winner through MLflow's own doors: predict, and a server on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from conftest import own_environment

MODEL = "models:/makemore-given_names/1"
STUDY = ("space=none", "model.hidden_neurons=8,16", "train.steps=60", "study.workers=1", "study.confirm.top=0")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study whose winner is registered."""
    folder = tmp_path_factory.mktemp("registered")
    command = [sys.executable, "-m", "makemore", "sweep", "study.name=a", *STUDY, "study.pictures=false"]
    subprocess.run(command, cwd=folder, env=own_environment(), check=True, capture_output=True)
    return folder


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # MLflow calls uvicorn
    return {**own_environment(), "PATH": path, "MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"}


def check_probabilities(answer: str) -> None:
    rows = pd.DataFrame(json.loads(answer)["predictions"])
    assert list(rows.columns) == list(".abcdefghijklmnopqrstuvwxyz")
    assert rows.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])


def test_mlflow_predicts_with_the_winner(folder: Path) -> None:
    (folder / "beginnings.csv").write_text('context\nma\n""\n')
    command = ["predict", "--model-uri", MODEL, "--env-manager", "local", "--content-type", "csv"]
    files = ["--input-path", "beginnings.csv", "--output-path", "next.json"]
    subprocess.run(
        [sys.executable, "-m", "mlflow", "models", *command, *files], cwd=folder, env=environment(), check=True
    )
    check_probabilities((folder / "next.json").read_text())
    code = (
        "import mlflow, pandas as pd\n"
        f"mlflow.models.predict({MODEL!r}, pd.DataFrame({{'context': ['ma', '']}}), env_manager='local',"
        " output_path='again.json')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), check=True)
    assert (folder / "again.json").read_text() == (folder / "next.json").read_text()


def ask(address: str, body: dict[str, object]) -> str:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def test_mlflow_serves_the_winner_on_loopback(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["serve", "--model-uri", MODEL, "--env-manager", "local", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", *command],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline, "nothing was served within a minute"
                time.sleep(0.2)
        contexts = [{"context": "ma"}, {"context": ""}]
        check_probabilities(ask(address, {"dataframe_records": contexts}))
        drawn = json.loads(ask(address, {"dataframe_records": contexts, "params": {"n": 3, "seed": 1}}))["predictions"]
        assert [row["context"] for row in drawn] == ["ma"] * 3 + [""] * 3
        assert all(row["word"].startswith(row["context"]) for row in drawn)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
