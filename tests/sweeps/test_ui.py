"""The MLflow UI and optuna-dashboard in a real browser, on a store with three studies of many trials."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import CHROMIUM, fetch, start
from fake_tasks import FAKE
from omegaconf import OmegaConf

from sweeps.databases import close_databases
from sweeps.tracking.queries import find_study_run
from sweeps.tracking.runs import start_run
from sweeps.tracking.store import MlflowClient, open_tracking

TRIALS = 10  # that were trained
MANY = 200
TOWNS = Path(__file__).parents[1] / "towns.txt"
OLD = Path(__file__).parents[1] / "old_store" / "0.1.0.tar.xz"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]


@dataclass(frozen=True)
class Served:
    """A command that serves a page, and what it said."""

    address: str
    pages: dict[str, str]  # the addresses of pages, by what they show
    process: subprocess.Popen[str]


def serve(command: str, folder: Path, pages: int) -> Served:
    process = start(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert address
    shown = dict(process.stdout.readline().strip().split(": ", 1) for _ in range(pages))
    fetch(address[0])
    return Served(address[0], shown, process)


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
    """Where there are three studies: one of a list of one's own, one of an own task, and the newest with its pictures.

    Each has many more trials than the UI shows at a time; most of them were never trained.
    """
    path = tmp_path_factory.mktemp("studies")
    shutil.copy(TOWNS, path)
    alone = ("study.workers=1", "study.confirm.top=0", "study.pictures=false")
    towns = ("space=none", "model=ngram", "model.order=1,2,3", "data=file", "data.path=towns.txt", "study.name=towns")
    sweep(path, *towns, *alone)
    sweep(path, *FAKE, "task=instant", "task.level=1.5,2.5", "study.name=levels", *alone)
    confirm = ("study.confirm.top=2", "study.confirm.seeds=1")
    sweep(
        path,
        f"study.n_trials={TRIALS}",
        "study.workers=2",
        "pruner=none",
        "train.steps=300",
        "study.name=rivers",
        *confirm,
    )
    add_trials(path)
    return path


def sweep(folder: Path, *arguments: str) -> None:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert start("sweep", *arguments, extras=True, cwd=folder, **quiet).wait(timeout=120) == 0


def add_trials(folder: Path) -> None:
    """Let each study have many trials; those of rivers lost against all that were trained."""
    tracking = {"experiment": "makemore", "artifacts": f"{folder}/mlruns/artifacts"}
    tracking["uri"] = f"sqlite:///{folder}/mlruns/mlflow.db"
    store = open_tracking(OmegaConf.create({"tracking": tracking}))
    for study in ("towns", "levels", "rivers"):
        parent = find_study_run(store, study)
        assert parent
        for number in range(TRIALS, MANY):
            tags = {"study": study, "trial_number": str(number), "trial_state": "COMPLETE"}
            params = {"trial_number": number, "model.block_size": number}
            name = f"#{number:03d} block_size={number}"
            run = start_run(store, name, "trial", params, tags, parent_id=parent.run_id)
            run.log_metrics({"best_dev_loss": 5 + number / 1000})
            run.end("FINISHED")
    close_databases()


@pytest.fixture(scope="module")
def ui(folder: Path) -> Iterator[Served]:
    """`makemore ui` on those studies."""
    served = serve("ui", folder, pages=3)
    yield served
    stop(served)


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


def rows(page: Any, column: str) -> list[str]:
    """The cells of a column of the table of runs, from top to bottom, as far as the browser has drawn them."""
    cells: list[str] = page.evaluate(
        """column => {
            const place = cell => parseInt(cell.closest('.ag-row').getAttribute('row-index'));
            const cells = [...document.querySelectorAll('.ag-cell')];
            const own = cells.filter(cell => cell.getAttribute('col-id') === column);
            return own.sort((one, other) => place(one) - place(other)).map(cell => cell.textContent);
        }""",
        column,
    )
    return cells


def headings(page: Any) -> list[str]:
    """The headings of the table of runs, from left to right, as far as the browser has drawn them."""
    texts: list[str] = page.evaluate(
        """() => {
            const left = cell => cell.getBoundingClientRect().left;
            const cells = [...document.querySelectorAll('.ag-header-cell')].sort((a, b) => left(a) - left(b));
            return cells.map(cell => cell.textContent.trim().split('\\n')[0]).filter(text => text);
        }"""
    )
    return texts


def visible_names(page: Any) -> list[str]:
    """As much of each run's name as its cell in the table has room for."""
    names: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('.ag-row a[href*="/runs/"]')].map(link => {
            const box = link.closest('.ag-cell').getBoundingClientRect();
            const share = Math.min(1, (box.right - link.getBoundingClientRect().left) / link.scrollWidth);
            return link.textContent.slice(0, Math.floor(share * link.textContent.length));
        })"""
    )
    return names


def test_the_first_address_opens_the_newest_studys_trials_by_dev_loss(ui: Served, browser: Any) -> None:
    page = open_page(browser, ui.pages["trials of the newest study, rivers"], width=2600, height=800)
    page.get_by_text("Sort: best_dev_loss").first.wait_for()
    page.locator(".ag-row").first.wait_for()
    close_assistant(page)
    page.wait_for_timeout(1000)  # the table is drawn again in its new width
    assert headings(page) == [
        *("Run Name", "Created", "Duration", "best_dev_loss"),
        *("model.block_size", "model.embedding_size", "model.hidden_neurons", "train.batch_size", "schedule.lr"),
        *("optimizer.weight_decay", "parameters", "train_seconds"),
    ]
    losses = [float(loss.rstrip("…")) for loss in rows(page, "metrics.`best_dev_loss`")]
    assert len(losses) > TRIALS
    assert losses == sorted(losses)
    assert losses[TRIALS - 1] < 5 <= losses[TRIALS]
    page.get_by_text("Model training", exact=True).first.wait_for()
    names = visible_names(page)
    assert len(set(names)) == len(names) == len(losses)
    keep(page, "trials")
    boxes = page.locator(".ag-row .ag-checkbox-input")
    for place in range(3):
        boxes.nth(place).check(force=True)
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(re.compile("compare-runs"))
    page.get_by_text("Parallel Coordinates Plot").first.wait_for()
    page.locator(".js-plotly-plot, canvas").first.wait_for()
    keep(page, "compared")
    page.close()


def test_the_address_of_all_studies_opens_them_and_no_trial(ui: Served, browser: Any) -> None:
    page = open_page(browser, ui.pages["all studies"], width=2200, height=500)
    page.get_by_text("3 matching runs").first.wait_for()
    close_assistant(page)
    page.wait_for_timeout(1000)
    assert visible_names(page) == ["levels", "rivers", "towns"]  # the lowest dev loss first
    assert headings(page)[3:8] == ["best_dev_loss", "confirmed_dev_loss", "trials", "list", "searched"]
    assert rows(page, "metrics.`trials`") == ["2", str(TRIALS), "3"]
    assert rows(page, "params.`list`") == ["Instant", "given_names", "towns.txt"]
    assert rows(page, "params.`searched`")[0] == "task.level"
    assert rows(page, "metrics.`confirmed_dev_loss`")[0] == "-" != rows(page, "metrics.`confirmed_dev_loss`")[1]
    keep(page, "studies")
    page.close()


def test_a_study_that_has_no_view_is_sorted_too(browser: Any, tmp_path: Path) -> None:
    """It was made by an earlier version: the address carries the filter and the order."""
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    served = serve("ui", tmp_path, pages=3)
    try:
        page = open_page(browser, served.pages["trials of the newest study, counts"])
        page.get_by_text("4 matching runs").first.wait_for()
        page.get_by_text("Sort: best_dev_loss").first.wait_for()
        page.close()
    finally:
        stop(served)


def test_trials_stand_under_their_study(ui: Served, browser: Any) -> None:
    page = open_page(browser, f"{ui.address}/#/experiments/1/runs?workflowType=machine_learning", width=1800)
    page.get_by_text("rivers", exact=True).first.wait_for()
    close_assistant(page)
    page.locator(".ag-row button").first.click()  # the study opens, and its trials stand under it
    page.get_by_text(re.compile(r"#\d+ block_size=\d")).first.wait_for()
    page.close()


def test_a_study_has_its_notes_and_pictures_and_leads_to_its_winner(ui: Served, browser: Any) -> None:
    notes = ui.pages["its notes and pictures"]
    page = open_page(browser, notes)
    page.get_by_text("rivers", exact=True).first.wait_for()
    page.get_by_text(re.compile("(below|above) trial 0, the lecture's sizes")).first.wait_for()
    keep(page, "notes")
    page.get_by_text("Show more", exact=True).first.click()
    with page.expect_popup() as winner:
        page.get_by_role("link", name=re.compile("[0-9a-f]{32}")).first.click()
    winner.value.get_by_text(re.compile("New words: ")).first.wait_for()
    winner.value.get_by_text("makemore-given_names").first.wait_for()  # the model that was registered
    page.goto("about:blank")
    page.goto(notes.replace("?", "/artifacts/pictures.html?"))
    inside = page.frame_locator("iframe").first
    for heading in ("Optimisation history", "Parallel coordinates", "Learning curves"):
        inside.get_by_role("heading", name=heading).wait_for()
    inside.locator(".js-plotly-plot svg").first.wait_for()
    keep(page, "pictures")
    page.close()


def test_the_winner_has_its_diagnosis_and_pictures(ui: Served, folder: Path, browser: Any) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    [version] = client.search_model_versions("name = 'makemore-given_names'")
    page = open_page(browser, f"{ui.address}/#/experiments/1/runs/{version.run_id}?workflowType=machine_learning")
    for text in ("model.block_size", "best_dev_loss", "trial_number"):
        page.get_by_text(text, exact=True).first.wait_for()
    page.get_by_text(re.compile("New words: ")).first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    for name in ("embedding.png", "loss_curve.png"):
        page.get_by_text(name, exact=True).first.click()
        page.locator("img[src^='blob:'], img[src*='artifact']").first.wait_for()
    page.close()


def test_the_models_are_listed_with_their_data_and_dev_loss(ui: Served, browser: Any) -> None:
    page = open_page(browser, f"{ui.address}/#/experiments/1/models?workflowType=machine_learning", 2200, 500)
    for name in ("towns", "levels", "rivers"):
        page.get_by_text(re.compile(rf"^{name}-trial-\d+$")).first.wait_for()
    close_assistant(page)
    page.get_by_text("makemore-towns.txt").first.wait_for()
    page.get_by_text(re.compile("towns.txt-disjoint-dev")).first.wait_for()
    page.locator(".ag-header").get_by_text("best_dev_loss", exact=True).first.wait_for()
    keep(page, "models")
    page.close()


def test_the_registry_has_a_model_for_each_list(ui: Served, browser: Any) -> None:
    page = open_page(browser, f"{ui.address}/#/models?workflowType=machine_learning")
    for name in ("makemore-given_names", "makemore-towns.txt", "makemore-Instant"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.goto(f"{ui.address}/#/models/makemore-given_names/versions/1?workflowType=machine_learning")
    page.get_by_text(re.compile(r"Winner of study rivers: trial \d+, dev loss .* on given_names")).first.wait_for()
    keep(page, "version")
    page.close()


def test_the_dashboard_shows_the_study(folder: Path, browser: Any) -> None:
    served = serve("dashboard", folder, pages=1)
    try:
        page = open_page(browser, served.pages["newest study, rivers"])
        page.get_by_text("rivers").first.wait_for()
        page.close()
    finally:
        stop(served)
