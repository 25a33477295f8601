"""The MLflow UI and optuna-dashboard on the configured records."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from omegaconf import DictConfig

from makemore.limits import check
from sweeps.config.names import is_study_name
from sweeps.config.reading import read_node
from sweeps.databases import resolve_url
from sweeps.tracking.queries import newest_study_run
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.trials.storage import open_storage


@dataclass(frozen=True)
class UiConfig:
    """Where a page is served."""

    port: int

    def __post_init__(self) -> None:
        check("port", self.port, low=1, high=65535)


def serve_ui(cfg: DictConfig) -> None:
    """Serve the MLflow UI on loopback until interrupted; of a server, only say where it is.

    Raises:
        RequestError: a bad port, or no records.
        OSError: the server ended by itself.
    """
    config: UiConfig = read_node(UiConfig, cfg, "")
    store = open_tracking(cfg, create=False)
    if store.uri.startswith("http"):
        _announce("the MLflow UI", store.uri, _newest_run(store))
        return
    port = _free_port(config.port)
    _announce("the MLflow UI", f"http://127.0.0.1:{port}", _newest_run(store), " in a few seconds (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri, "--host", "127.0.0.1"]
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


def serve_dashboard(cfg: DictConfig) -> None:
    """Serve optuna-dashboard on loopback until interrupted.

    Raises:
        RequestError: a bad port, or no studies.
    """
    from optuna_dashboard import wsgi

    config: UiConfig = read_node(UiConfig, cfg, "")
    url = resolve_url("study.storage", str(cfg.study.storage), table="studies", must_exist=True)
    storage = open_storage(url)
    studies = [one for one in storage.get_all_studies() if is_study_name(one.study_name)]
    newest = (studies[-1].study_name, f"/dashboard/studies/{studies[-1]._study_id}") if studies else None
    with make_server("127.0.0.1", _free_port(config.port), wsgi(storage), _Server, _Handler) as server:
        _announce("optuna-dashboard", f"http://127.0.0.1:{server.server_port}", newest, " (Ctrl-C ends it)")
        server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a request: a browser keeps several open."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Without a line on standard error for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _announce(what: str, address: str, newest: tuple[str, str] | None, remark: str = "") -> None:
    """Say where a page is, and where in it the newest study."""
    print(f"{what} is at {address}{remark}", flush=True)
    if newest is not None:
        name, place = newest
        print(f"newest study, {name}: {address}{place}", flush=True)


def _newest_run(store: TrackingStore) -> tuple[str, str] | None:
    """Name of the newest study, and the place of its run in the MLflow UI."""
    run = newest_study_run(store)
    return (run.tags["study"], f"/#/experiments/{store.experiment_id}/runs/{run.run_id}") if run else None


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
