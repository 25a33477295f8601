"""The MLflow UI on the configured records."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

from omegaconf import DictConfig

from sweeps.errors import RequestError
from sweeps.records import resolve_url


def serve_ui(cfg: DictConfig) -> None:
    """Serve the UI on loopback until interrupted; of a server, only say where it is.

    Raises:
        RequestError: a bad port, or records that cannot be reached.
    """
    if type(cfg.port) is not int or not 1 <= cfg.port <= 65535:
        raise RequestError(f"port is {cfg.port!r}; it must be an integer from 1 to 65535")
    uri = resolve_url("tracking.uri", cfg.tracking.uri)
    if uri.startswith("http"):
        print(f"the MLflow UI is at {uri}")
        return
    port = _free_port(cfg.port)
    print(f"the MLflow UI is at http://127.0.0.1:{port} in a few seconds (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # Without its job executors, seven processes that serve other uses of MLflow.
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(command, env={**os.environ, **settings}, start_new_session=True)
    try:
        server.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)  # the server and its workers
        server.wait()


def _free_port(wanted: int) -> int:
    for port in (*range(wanted, min(wanted + 100, 65536)), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RequestError(f"port is {wanted}; no port from there on is free: give another one")
