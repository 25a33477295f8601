"""The MLflow UI and optuna-dashboard on the configured records."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from omegaconf import DictConfig

from makemore.limits import check
from sweeps.config.names import check_study_name, is_study_name
from sweeps.config.reading import read_node
from sweeps.databases import hide_password, original_file, resolve_url, sqlite_file
from sweeps.errors import RequestError
from sweeps.tracking.queries import find_study_run, newest_study_run
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.tracking.views import STUDIES, run_address, study_view
from sweeps.trials.storage import open_storage

_ENDS = "Ctrl-C ends it"


@dataclass(frozen=True)
class UiConfig:
    """The keys of `makemore ui` and `makemore dashboard`."""

    port: int

    def __post_init__(self) -> None:
        check("port", self.port, low=1, high=65535)


def serve_ui(cfg: DictConfig) -> None:
    """Serve the MLflow UI on loopback until interrupted; if tracking.uri is a server, only print its addresses.

    Raises:
        RequestError: the port is outside its range, or there are no records, or none of the study that was named.
        OSError: the server ended by itself.
    """
    config: UiConfig = read_node(UiConfig, cfg, "")
    store = open_tracking(cfg, create=False)
    pages = _pages(store, cfg.study.name)
    if store.uri.startswith("http"):
        parts = urlsplit(store.uri.rstrip("/"))
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        _announce("the MLflow UI", address, pages)
        return
    port = _free_port(config.port)
    remark = f" in a few seconds ({_ENDS}{_copy_remark(store.uri)})"
    _announce("the MLflow UI", f"http://127.0.0.1:{port}", pages, remark)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level warning"]
    # The job executors are seven processes that a UI for runs does not need.
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    # The address is not on the server's command line, which every user of this machine can read.
    settings |= {"MLFLOW_BACKEND_STORE_URI": store.uri, "MLFLOW_REGISTRY_STORE_URI": store.uri}
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_READ_REPLICA_BACKEND_STORE_URI"}
    server = subprocess.Popen(command, env={**inherited, **settings}, start_new_session=True)
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
        RequestError: the port is outside its range, or there are no studies.
    """
    from optuna_dashboard import wsgi

    config: UiConfig = read_node(UiConfig, cfg, "")
    url = resolve_url("study.storage", str(cfg.study.storage), table="studies", must_exist=True, writes=False)
    storage = open_storage(url)
    studies = [study for study in storage.get_all_studies() if is_study_name(study.study_name)]
    pages = {}
    if studies:
        name = studies[-1].study_name
        pages[f"newest study, {name}"] = f"/dashboard/studies/{storage.get_study_id_from_name(name)}"
    with make_server("127.0.0.1", _free_port(config.port), wsgi(storage), _Server, _Handler) as server:
        remark = f" ({_ENDS}{_copy_remark(url)})"
        _announce("optuna-dashboard", f"http://127.0.0.1:{server.server_port}", pages, remark)
        server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """A server with a thread for each request, because a browser keeps several connections open."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """A request handler that logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Do nothing; the base class writes a line to standard error for each request."""


def _announce(what: str, address: str, pages: Mapping[str, str], remark: str = "") -> None:
    """Print an address, and that of each page there; `pages` has their paths by what they show."""
    print(f"{what} is at {address}{remark}", flush=True)
    for shown, path in pages.items():
        print(f"{shown}: {address}{path}", flush=True)


def _pages(store: TrackingStore, name: str | int | None) -> dict[str, str]:
    """What pages of the MLflow UI show, and their paths: a study's trials and notes, and all studies.

    Args:
        name: of the study; None for the newest.
    """
    if name is not None:
        check_study_name(str(name))
    run = newest_study_run(store) if name is None else find_study_run(store, str(name))
    if run is None:
        if name is not None:
            raise RequestError(
                f"study.name is {name}; {hide_password(store.uri)} has no such study: see makemore studies"
            )
        return {}
    study = run.tags["study"]
    return {
        f"trials of the newest study, {study}" if name is None else f"trials of {study}": study_view(study).address(
            store
        ),
        "its notes and pictures": run_address(store, run.run_id),
        "all studies": STUDIES.address(store),
    }


def _copy_remark(url: str) -> str:
    """What is to be said of records that may only be read: the page shows a copy."""
    file = sqlite_file(url)
    is_copy = file is not None and original_file(file) != file
    return "; these records may only be read, so changes are not kept" if is_copy else ""


def _free_port(wanted: int) -> int:
    """The wanted port or the next free port after it; a port that the system picks where none of these is free."""
    for port in (*range(wanted, min(wanted + 100, 65536)), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")
