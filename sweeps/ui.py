"""The MLflow UI on the configured records."""

import socket
import subprocess
import sys

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
    print(f"the MLflow UI is at http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"])
    try:
        server.wait()
    finally:
        server.terminate()
        server.wait()


def _free_port(wanted: int) -> int:
    for port in (*range(wanted, min(wanted + 100, 65536)), 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RequestError(f"port is {wanted}; no port from there on is free: give another one")
