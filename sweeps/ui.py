"""The MLflow UI on the configured records."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass

from omegaconf import DictConfig

from makemore.limits import check
from sweeps.config import read_node
from sweeps.tracking import open_tracking


@dataclass(frozen=True)
class UiConfig:
    """Where the UI listens."""

    port: int

    def __post_init__(self) -> None:
        check("port", self.port, low=1, high=65535)


def serve_ui(cfg: DictConfig) -> None:
    """Serve the UI on loopback until interrupted; of a server, only say where it is.

    Raises:
        RequestError: a bad port, or no records.
        OSError: the server ended by itself.
    """
    config: UiConfig = read_node(UiConfig, cfg, "")
    uri = open_tracking(cfg, create=False).uri
    if uri.startswith("http"):
        print(f"the MLflow UI is at {uri}")
        return
    port = _free_port(config.port)
    print(f"the MLflow UI is at http://127.0.0.1:{port} in a few seconds (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # Without its job executors, seven processes that serve other uses of MLflow.
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(command, env={**os.environ, **settings}, start_new_session=True)
    try:
        code = server.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)  # the server and its workers
        server.wait()
    raise OSError(f"the MLflow server ended by itself, with exit code {code}")


def _free_port(wanted: int) -> int:
    for port in (*range(wanted, min(wanted + 100, 65536)), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")
