"""The HTML pages in a real browser: no label covers another, whatever the width; dark where the reader's system is."""

import io
from pathlib import Path
from typing import Any

import pytest
from conftest import CHROMIUM, call, start
from PIL import Image, ImageStat

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]

# Pairs of labels of one picture whose boxes share more than a hair.
OVERLAPS = """() => {
    const pairs = [];
    for (const picture of document.querySelectorAll(".plotly-graph-div")) {
        const labels = [...picture.querySelectorAll("svg text")].filter(label => label.textContent.trim());
        const boxes = labels.map(label => label.getBoundingClientRect());
        for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
            const [one, other] = [boxes[i], boxes[j]];
            const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
            const height = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
            if (width > 1 && height > 2) pairs.push([labels[i].textContent, labels[j].textContent]);
        }
    }
    return pairs;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The page of a study's pictures, and that of a comparison; ten keys differ, some of them for a few trials only."""
    folder = tmp_path_factory.mktemp("pages")
    small = ("study.n_trials=9", "pruner=none", "train.steps=40", "study.workers=2", "study.confirm.top=0")
    sweep = start("sweep", "space=mlp", "study.name=many-keys", *small, extras=True, cwd=folder)
    assert sweep.wait(timeout=180) == 0
    call(folder, "compare", "format=html")
    [pictures] = (folder / "mlruns/artifacts").rglob("pictures.html")
    return [pictures, folder / "compare.html"]


def show(browser: Any, path: Path, width: int, scheme: str = "light") -> Any:
    page = browser.new_context(
        offline=True, viewport={"width": width, "height": 900}, color_scheme=scheme
    ).new_page()  # fmt: skip
    page.goto(path.absolute().as_uri())
    page.locator(".plotly-graph-div .axis-title").first.wait_for(timeout=30_000)
    page.locator(".plotly-graph-div .xtick").first.wait_for(timeout=30_000)
    return page


@pytest.mark.parametrize("width", [800, 1400])
def test_no_label_covers_another(pages: list[Path], browser: Any, width: int) -> None:
    for path in pages:
        page = show(browser, path, width)
        assert page.locator(".axis-title").all_text_contents().count("hidden_neurons") == 1
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # wide pictures scroll, the page does not
        page.close()


def test_a_page_says_what_it_is_about(pages: list[Path], browser: Any) -> None:
    pictures, comparison = (show(browser, path, 800).locator("body").inner_text() for path in pages)
    for text in (pictures, comparison):
        assert "many-keys" in text
        assert "Data: given_names, disjoint split." in text
    assert "9 complete trials. Winner: trial " in pictures


def test_a_page_is_dark_where_the_system_is(pages: list[Path], browser: Any) -> None:
    for path in pages:
        shots = [show(browser, path, 800, scheme).screenshot() for scheme in ("light", "dark")]
        light, dark = (ImageStat.Stat(Image.open(io.BytesIO(shot)).convert("L")).mean[0] for shot in shots)
        assert light > 200
        assert dark < 55
