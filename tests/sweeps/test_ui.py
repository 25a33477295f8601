"""The MLflow UI in a real browser."""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Makemore, start

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def ui(makemore: Makemore, workdir: Path) -> Iterator[str]:
    """The address of `makemore ui` on a finished study of three trials."""
    assert makemore("sweep", "study.name=rivers", "study.n_trials=3", "train.steps=50").code == 0
    server = start("ui", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found
        wait_for(found[0])
        yield found[0]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 130
        if server.stdout:
            server.stdout.close()


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline, "the UI did not start within a minute"
            time.sleep(0.2)
        else:
            return


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_browser_shows_the_study_and_its_trials_with_params_and_metrics(ui: str, workdir: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 3000, "height": 560})
        page.goto(f"{ui}/#/experiments/1/runs")
        page.get_by_text("rivers", exact=True).first.wait_for(timeout=30_000)
        page.get_by_role("button", name="Close").click()  # of MLflow's assistant
        page.get_by_role("button", name="Columns", exact=True).click()
        for group in ("Metrics", "Parameters"):
            row = page.locator("[class*=tree-treenode]").filter(has_text=re.compile(rf"{group} \(\d+\)")).first
            row.locator("[class*=tree-checkbox]").first.click()
        page.keyboard.press("Escape")
        page.locator(".ag-row button").first.click()  # the study opens, and its trials stand under it
        for number in range(3):
            page.get_by_text(re.compile(rf"#00{number} block_size=\d")).first.wait_for(timeout=30_000)
        header = page.locator(".ag-header")
        for column in ("best_dev_loss", "steps_per_second", "data.split", "model.block_size"):
            header.get_by_text(column, exact=True).first.wait_for(timeout=30_000)
        if folder := os.environ.get("MAKEMORE_SCREENSHOTS"):  # for whoever wants to look at what was tested
            page.screenshot(path=str(Path(folder) / "study.png"))
        page.get_by_text(re.compile(r"#000 block_size=\d")).first.click()
        for text in ("model.block_size", "schedule.lr", "best_dev_loss", "trial_number"):
            page.get_by_text(text, exact=True).first.wait_for(timeout=30_000)
        browser.close()
