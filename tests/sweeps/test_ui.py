"""The MLflow UI and optuna-dashboard in a real browser, on a finished study."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import start

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
TRIALS = 10

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]


@dataclass(frozen=True)
class Served:
    """A command that serves a page, and what it said."""

    address: str
    newest: str  # the link to the newest study
    process: subprocess.Popen[str]


def serve(command: str, folder: Path) -> Served:
    process = start(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    newest = re.fullmatch(r"newest study, rivers: (\S+)\n", process.stdout.readline())
    assert address
    assert newest
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address[0], timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline, "nothing was served within a minute"
            time.sleep(0.2)
        else:
            return Served(address[0], newest[1], process)


def stop(served: Served) -> None:
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(timeout=30) == 130
    if served.process.stdout:
        served.process.stdout.close()
    with socket.socket() as probe:  # the port is free again: its children have ended, too
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", int(served.address.rpartition(":")[2])))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where there is a finished study, with its pictures."""
    path = tmp_path_factory.mktemp("study")
    arguments = ["study.name=rivers", f"study.n_trials={TRIALS}", "study.workers=2", "study.confirm.top=0"]
    sweep = start(
        "sweep",
        *arguments,
        "pruner=none",
        "train.steps=300",
        extras=True,
        cwd=path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert sweep.wait(timeout=120) == 0
    return path


@pytest.fixture(scope="module")
def ui(folder: Path) -> Iterator[Served]:
    """`makemore ui` on that study."""
    served = serve("ui", folder)
    yield served
    stop(served)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def open_page(browser: Any, address: str, width: int = 1500, height: int = 900) -> Any:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(30_000)
    page.goto(address)
    return page


def close_assistant(page: Any) -> None:
    """MLflow's, which stands in the way."""
    close = page.get_by_role("button", name="Close")
    close.first.wait_for()
    close.first.click()


def keep(page: Any, name: str) -> None:
    """A screenshot for whoever wants to look at what was tested."""
    if folder := os.environ.get("MAKEMORE_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def show_columns(page: Any) -> None:
    """All metrics and params in the table of runs."""
    page.get_by_role("button", name="Columns", exact=True).click()
    for group in ("Metrics", "Parameters"):
        row = page.locator("[class*=tree-treenode]").filter(has_text=re.compile(rf"{group} \(\d+\)")).first
        row.locator("[class*=tree-checkbox]").first.click()
    page.keyboard.press("Escape")


def test_trials_stand_under_their_study_can_be_sorted_and_compared(ui: Served, browser: Any) -> None:
    page = open_page(browser, f"{ui.address}/#/experiments/1/runs", width=3600, height=800)
    page.get_by_text("rivers", exact=True).first.wait_for()
    close_assistant(page)
    show_columns(page)
    page.locator(".ag-row button").first.click()  # the study opens, and its trials stand under it
    for number in range(TRIALS):
        page.get_by_text(re.compile(rf"#00{number} block_size=\d")).first.wait_for()
    header = page.locator(".ag-header")
    for column in ("best_dev_loss", "gap", "parameters", "data.split", "model.block_size"):
        header.get_by_text(column, exact=True).first.wait_for()
    page.get_by_text(re.compile(r"given_names-disjoint-(train|dev)")).first.wait_for()  # the dataset column
    for ascending in ("false", "true"):  # the first click puts the largest first, the second the smallest
        header.get_by_text("best_dev_loss", exact=True).first.click()
        page.wait_for_url(re.compile(f"best_dev_loss.*orderByAsc={ascending}"))
    page.wait_for_function(
        """() => {
            const place = cell => parseInt(cell.closest('.ag-row').getAttribute('row-index'));
            const cells = [...document.querySelectorAll('.ag-cell[col-id*="best_dev_loss"]')];
            cells.sort((one, other) => place(one) - place(other));
            const losses = cells.map(cell => parseFloat(cell.textContent)).filter(loss => !isNaN(loss));
            const order = [...losses].sort((one, other) => one - other);
            return losses.length > 5 && JSON.stringify(losses) === JSON.stringify(order);
        }"""
    )
    keep(page, "sorted")
    boxes = page.locator(".ag-row .ag-checkbox-input")
    for place in (1, 2, 3):
        boxes.nth(place).check(force=True)
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(re.compile("compare-runs"))
    page.get_by_text("Parallel Coordinates Plot").first.wait_for()
    page.locator(".js-plotly-plot, canvas").first.wait_for()
    keep(page, "compared")
    page.close()


def test_the_link_leads_to_the_study_with_its_notes_and_pictures(ui: Served, browser: Any) -> None:
    page = open_page(browser, ui.newest)
    page.get_by_text("rivers", exact=True).first.wait_for()
    page.get_by_text(re.compile("what mattered most among the ")).first.wait_for()
    page.get_by_text(re.compile("(below|above) trial 0, the lecture's sizes")).first.wait_for()
    keep(page, "notes")
    page.goto(f"{ui.newest}/artifacts/pictures.html")
    inside = page.frame_locator("iframe").first
    for heading in ("Optimisation history", "Parallel coordinates", "Learning curves"):
        inside.get_by_role("heading", name=heading).wait_for()
    inside.locator(".js-plotly-plot svg").first.wait_for()
    keep(page, "pictures")
    page.close()


def test_the_winner_has_its_diagnosis_and_pictures(ui: Served, folder: Path, browser: Any) -> None:
    study = optuna.load_study(study_name="rivers", storage=f"sqlite:///{folder}/mlruns/study.db")
    page = open_page(browser, f"{ui.address}/#/experiments/1/runs", width=1800)
    page.get_by_text("rivers", exact=True).first.wait_for()
    close_assistant(page)
    page.locator(".ag-row button").first.click()
    page.get_by_text(re.compile(rf"#{study.best_trial.number:03d} block_size=\d")).first.click()
    for text in ("model.block_size", "best_dev_loss", "trial_number"):
        page.get_by_text(text, exact=True).first.wait_for()
    page.get_by_text(re.compile("New words: ")).first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    for name in ("embedding.png", "loss_curve.png"):
        page.get_by_text(name, exact=True).first.click()
        page.locator("img[src^='blob:'], img[src*='artifact']").first.wait_for()
    page.close()


def test_the_registry_has_the_winner(ui: Served, browser: Any) -> None:
    page = open_page(browser, f"{ui.address}/#/models/makemore")
    page.get_by_text("Version 1").first.wait_for()
    page.close()


def test_the_dashboard_shows_the_study(folder: Path, browser: Any) -> None:
    served = serve("dashboard", folder)
    try:
        page = open_page(browser, served.newest)
        page.get_by_text("rivers").first.wait_for()
        page.close()
    finally:
        stop(served)
