"""Runs and studies side by side, by the command line on real records, and the page in a real browser."""

import json
import math
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Makemore
from test_ui import CHROMIUM

import sweeps.reports.paired
from makemore.data import GIVEN_NAMES, read_words, split_words
from sweeps.cli import run
from sweeps.reports.pictures import pareto_front
from sweeps.reports.tables import short_names, to_markdown
from sweeps.task.item_losses import write_item_losses
from sweeps.task.language_model.weights import load_weights
from sweeps.tracking.runs import Metric, Param
from sweeps.tracking.store import MlflowClient

HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>|é漢"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, empty_records: Path) -> Path:
    """A folder with the records of three studies and a single run: "a" confirmed, "b", and "c" on another split."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "mlruns").mkdir()
    (folder / "mlruns/mlflow.db").write_bytes(empty_records.read_bytes())
    common = ("study.workers=1", "train.steps=20", "train.evaluations=4", "pruner=none")
    widths = ("sampler=grid", "space=none", "study.confirm.top=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["makemore"])
        confirm = ("study.confirm.top=1", "study.confirm.seeds=2", "study.n_trials=3")
        assert run(["sweep", "study.name=a", *confirm, *common]) == 0
        assert run(["sweep", "study.name=b", *widths, *common, "model.hidden_neurons=20,30"]) == 0
        assert run(["sweep", "study.name=c", *widths, *common, "model.hidden_neurons=20,30", "data.split=lecture"]) == 0
        assert run(["train", "train.steps=20", "train.evaluations=4"]) == 0
    return folder


@pytest.fixture
def records(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of those records, in their folder."""
    monkeypatch.chdir(recorded)
    return client_of(recorded)


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def run_ids(client: MlflowClient, kind: str) -> list[str]:
    return [run.info.run_id for run in client.search_runs(["1"], f"tags.kind = '{kind}'")]


def rows(makemore: Makemore, *arguments: str) -> list[dict[str, Any]]:
    answer = makemore("compare", "format=json", *arguments)
    assert answer.code == 0, answer.err
    found: list[dict[str, Any]] = json.loads(answer.out)
    return found


def test_studies_stand_in_one_table_with_a_line_each(makemore: Makemore, records: MlflowClient) -> None:
    table = rows(makemore, "studies=[a,b]")
    assert sorted((row["study"], row["trial"]) for row in table) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    losses = [row["best_dev_loss"] for row in table]
    assert losses == sorted(losses)
    assert rows(makemore, "study.name=a", "studies=[b,a]") == table
    lines = [line.split() for line in makemore("compare", "studies=[a,b]").out.splitlines()]
    best = {
        name: min((row for row in table if row["study"] == name), key=lambda row: row["best_dev_loss"]) for name in "ab"
    }
    (confirmed,) = [row for row in table if row["confirmed_mean"] is not None]
    mean, sd = (f"{confirmed[f'confirmed_{key}']:.4f}" for key in ("mean", "sd"))
    assert lines[0] == ["study", "trials", "complete", "dev_loss", "winner", "confirmed_mean", "confirmed_sd"]
    assert lines[1] == ["a", "3", "3", f"{best['a']['best_dev_loss']:.4f}", str(confirmed["trial"]), mean, sd]
    assert lines[2] == ["b", "2", "2", f"{best['b']['best_dev_loss']:.4f}", str(best["b"]["trial"]), "-", "-"]


def test_what_differs_stands_before_the_run_and_what_is_equal_is_left_out(
    makemore: Makemore, records: MlflowClient
) -> None:
    columns = list(rows(makemore, "study.name=b")[0])
    assert columns[columns.index("steps_per_second") + 1 :][:2] == ["model.hidden_neurons", "run_id"]
    assert not {"study", "kind", "seed", "model.block_size"} & set(columns)


def test_runs_of_all_kinds_are_named_by_the_beginning_of_their_ids(makemore: Makemore, records: MlflowClient) -> None:
    ids = [run_ids(records, kind)[0] for kind in ("train", "trial", "confirm")]
    named = f"runs=['{ids[0][:12]}','{ids[1]}','{ids[2][:16]}']"
    table = rows(makemore, named)
    assert {row["run_id"]: row["kind"] for row in table} == dict(zip(ids, ("train", "trial", "confirm"), strict=True))
    assert {row["state"] for row in table} == {"COMPLETE"}
    assert [row["trial"] for row in table if row["kind"] == "train"] == [None]
    assert f"| {ids[0]} " in makemore("compare", named, "format=markdown").out
    (alone,) = rows(makemore, f"runs=['{ids[0]}']")
    assert alone["run_id"] == ids[0]
    assert not [key for key in alone if key.startswith(("model", "schedule", "study"))]
    with_study = rows(makemore, "study.name=b", f"runs=['{ids[0]}','{run_ids(records, 'trial')[0]}','{ids[0][:20]}']")
    assert len(with_study) == len({row["run_id"] for row in with_study})


def test_runs_of_one_setting_are_summed_up_over_their_seeds(makemore: Makemore, records: MlflowClient) -> None:
    table = rows(makemore, "study.name=a", "by=setting")
    confirming = [records.get_run(run_id) for run_id in run_ids(records, "confirm")]
    (trial,) = {run.data.tags["trial_number"] for run in confirming}
    (row,) = [row for row in table if row["trials"] == trial]
    (searched,) = [one for one in rows(makemore, "study.name=a") if str(one["trial"]) == trial]
    losses = [searched["best_dev_loss"], *(run.data.metrics["best_dev_loss"] for run in confirming)]
    half = 4.30265 * statistics.stdev(losses) / math.sqrt(3)  # Student's t with two degrees of freedom
    assert row["n"] == 3
    assert row["mean_dev_loss"] == pytest.approx(statistics.mean(losses))
    assert row["sd"] == pytest.approx(statistics.stdev(losses))
    assert [row["mean_low"], row["mean_high"]] == pytest.approx(
        [statistics.mean(losses) + side * half for side in (-1, 1)]
    )
    assert "seed" not in row
    others = [one for one in table if one is not row]
    assert [(one["n"], one["sd"], one["mean_low"]) for one in others] == [(1, None, None)] * 2
    assert "setting" not in makemore("compare", "study.name=a", "by=setting").err


def test_the_same_config_run_again_is_no_second_seed(makemore: Makemore, workdir: Path) -> None:
    for number in range(2):
        record(workdir, "twice", number, {"best_dev_loss": 2.5}, tags={"config_hash": "same", "group_hash": "g"})
    record(workdir, "twice", 2, {"best_dev_loss": 2.7}, tags={"config_hash": "other", "group_hash": "g"})
    (row,) = rows(makemore, "study.name=twice", "by=setting")
    assert (row["n"], row["mean_dev_loss"], row["trials"]) == (2, pytest.approx(2.6), "0, 2")


def test_a_paired_difference_is_that_of_the_words_losses(makemore: Makemore, records: MlflowClient) -> None:
    table = pd.DataFrame(rows(makemore, "studies=[a,b]", "baseline=b"))
    winner, first = table[table["study"] == "b"].iloc[0], table.iloc[0]
    assert (winner["difference"], winner["difference_low"], winner["difference_high"]) == (0, 0, 0)
    expected = table["best_dev_loss"] - winner["best_dev_loss"]
    assert table["difference"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-5)
    words = split_words(read_words(GIVEN_NAMES), "disjoint", 42).dev
    assert len(set(words)) == len(words)
    paired = plain_word_losses(records, first["run_id"], words) - plain_word_losses(records, winner["run_id"], words)
    characters = np.array([len(word) + 1 for word in words])
    drawn = np.random.default_rng(1).integers(len(words), size=(2000, len(words)))
    low, high = np.quantile(paired[drawn].sum(1) / characters[drawn].sum(1), [0.025, 0.975])
    width = high - low
    assert [first["difference_low"], first["difference_high"]] == pytest.approx([low, high], abs=0.1 * width)
    by_id = rows(makemore, "studies=[a,b]", f"baseline='{winner['run_id'][:12]}'", "top=2")
    assert [row["difference"] for row in by_id] == list(table["difference"][:2])
    by_number = rows(makemore, "study.name=b", f"baseline={winner['trial']}")
    assert by_number == rows(makemore, "study.name=b", "baseline=b")


def test_recorded_losses_are_believed_and_weights_are_evaluated_where_there_are_none(
    makemore: Makemore, recorded: Path, records: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = split_words(read_words(GIVEN_NAMES), "disjoint", 42).dev
    characters = torch.tensor([len(word) + 1 for word in words])
    table = rows(makemore, "study.name=b")
    winner, other = (
        recorded / "mlruns/artifacts" / row["run_id"] / "artifacts/dev_losses.safetensors" for row in table
    )
    before = {path: path.read_bytes() for path in (winner, other) if path.exists()}  # the version before wrote none
    losses = {path: torch.tensor(plain_word_losses(records, path.parts[-3], words)) for path in (winner, other)}

    def difference() -> float:
        [row] = [row for row in rows(makemore, "study.name=b", "baseline=b") if row["run_id"] == other.parts[-3]]
        return float(row["difference"])

    try:
        for path in before:
            path.unlink()
        evaluated = difference()
        assert evaluated == pytest.approx(table[1]["best_dev_loss"] - table[0]["best_dev_loss"], abs=1e-5)
        write_item_losses(other, losses[other] + 0.5 * characters, characters)  # and none of the winner's
        assert difference() == pytest.approx(evaluated + 0.5, abs=1e-5)
        write_item_losses(winner, losses[winner] + 0.25 * characters, characters)
        monkeypatch.setattr(sweeps.reports.paired, "load_recorded", None)  # nothing is left to evaluate
        assert difference() == pytest.approx(evaluated + 0.25, abs=1e-5)
        write_item_losses(other, losses[other][1:], characters[1:])
        answer = makemore("compare", "study.name=b", "baseline=b")
        assert (answer.code, "have losses of different dev items" in answer.err) == (2, True)
    finally:
        for path in (winner, other):
            path.unlink(missing_ok=True)
        for path, content in before.items():
            path.write_bytes(content)


def plain_word_losses(client: MlflowClient, run_id: str, words: list[str]) -> Any:
    """Each word's loss, character by character."""
    saved = load_weights(Path(client.download_artifacts(run_id, "weights.safetensors")))
    block_size, stoi, losses = saved.config.block_size, saved.alphabet.stoi, []
    for word in words:
        tokens = [0] * block_size + [stoi[character] for character in word] + [0]
        contexts = torch.tensor([tokens[at : at + block_size] for at in range(len(word) + 1)])
        with torch.no_grad():
            likely = torch.log_softmax(saved.module(contexts).double(), dim=1)
        losses.append(-float(likely[range(len(word) + 1), tokens[block_size:]].sum()))
    return np.array(losses)


def test_a_run_without_weights_has_no_difference(makemore: Makemore, recorded: Path, records: MlflowClient) -> None:
    dev_words = records.get_run(run_ids(records, "trial")[-1]).inputs
    try:
        run_id = record(recorded, "b", 2, {"dev_loss": 2.9}, state="PRUNED")
        records.log_inputs(run_id, dev_words.dataset_inputs)
        table = rows(makemore, "study.name=b", "baseline=b")
        assert [row["difference"] is None for row in table] == [False, False, True]
        assert makemore("compare", "study.name=b", "baseline=b").out.splitlines()[-1].split()[:6] == [
            "2", "PRUNED", "2.9000", "-", "-", "-",
        ]  # fmt: skip
    finally:
        records.delete_run(run_id)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs=[abc123abc123]"], "runs has abc123abc123; "),
        (["runs=[12e5]"], "runs has 1200000.0; an id that reads as a number is given in quotes"),
        (['runs=["a%"]'], "runs has a%; "),
        (["runs=PARENT"], "that is a run of kind study, not train, trial, seed, confirm"),
        (["runs=['']"], "runs has ; "),
        (["runs=abc"], "runs is 'abc'; it must be a list"),
        (["studies=[absent]"], "studies has absent; "),
        (['studies=["a\'b"]'], 'studies has "a\'b"; it must be 1 to 100 of'),
        (["studies=[a]", "baseline=absent"], "baseline is absent; "),
        (["studies=[a]", "baseline=c"], "has other dev words"),
        (["by=word"], "by is word; it must be run or setting"),
        (["output=absent/table.txt"], "output is absent/table.txt; it must be null, or a file in a folder that exists"),
    ],
)
def test_a_wrong_request_gets_one_line(
    makemore: Makemore, records: MlflowClient, arguments: list[str], message: str
) -> None:
    parent = run_ids(records, "study")[0]
    answer = makemore("compare", *(one.replace("PARENT", f"['{parent}']") for one in arguments))
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_an_ambiguous_id_is_refused_with_some_that_it_may_mean(makemore: Makemore, workdir: Path) -> None:
    first = [record(workdir, "many", number, {})[0] for number in range(17)]  # of sixteen digits
    shared = next(digit for digit in first if first.count(digit) > 1)
    answer = makemore("compare", f"runs=['{shared}']")
    assert answer.code == 2
    assert f"runs has {shared}; {first.count(shared)} runs begin with it ({shared}" in answer.err


def test_losses_on_different_words_are_said_not_to_compare(makemore: Makemore, records: MlflowClient) -> None:
    for form in ("table", "markdown"):
        assert "different splits" in makemore("compare", "studies=[b,c]", f"format={form}").out
        assert "different splits" not in makemore("compare", "studies=[a,b]", f"format={form}").out


def record(
    folder: Path,
    study: str,
    number: int,
    metrics: dict[str, float],
    params: dict[str, str] | None = None,
    state: str = "COMPLETE",
    tags: dict[str, str] | None = None,
) -> str:
    """A trial that nobody ran; the first of a study starts it."""
    client = client_of(folder)
    if client.get_experiment_by_name("makemore") is None:
        client.create_experiment("makemore")
        client.create_run("1", tags={"kind": "study", "study": study})
    identity = {"config_hash": f"c{number}", "group_hash": f"g{number}"}
    own = {
        "kind": "trial",
        "study": study,
        "trial_number": str(number),
        "trial_state": state,
        **identity,
        **(tags or {}),
    }
    run_id = client.create_run("1", tags=own).info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, 0, 10) for key, value in metrics.items()],
        params=[Param(key, value) for key, value in (params or {}).items()],
    )
    return str(run_id)


FORMS = ("table", "csv", "json", "markdown", "html")


@pytest.mark.parametrize("by", ["run", "setting"])
def test_a_study_without_a_complete_trial_can_be_shown(makemore: Makemore, workdir: Path, by: str) -> None:
    record(workdir, "dead", 0, {}, state="FAIL", tags={"reason": "RuntimeError:\nno | memory"})
    record(workdir, "dead", 1, {"dev_loss": 2.75}, {"model": "mlp"}, state="PRUNED")
    for form in FORMS:
        answer = makemore("compare", f"by={by}", f"format={form}")
        assert answer.code == 0, answer.err
    if by == "run":
        assert "2.7500" in makemore("compare").out
        assert "no \\| memory" in makemore("compare", "format=markdown").out
    assert "it has no winner" in makemore("compare", "baseline=dead").err


@pytest.mark.parametrize("by", ["run", "setting"])
def test_infinite_and_missing_figures_come_last(makemore: Makemore, workdir: Path, by: str) -> None:
    params = {"model": "mlp", "seed": "1", "schedule.lr": "0.1"}
    record(workdir, "odd", 0, {"best_dev_loss": math.inf, "train_seconds": 1.0}, params)
    record(workdir, "odd", 1, {"best_dev_loss": math.nan}, {"model": "ngram"})
    record(workdir, "odd", 2, {"best_dev_loss": 2.5, "train_seconds": 0.0}, {**params, "schedule.lr": "0.00001"})
    for form in FORMS:
        assert makemore("compare", f"by={by}", f"format={form}").code == 0
    assert [row["run_id"] for row in rows(makemore)] == [row["run_id"] for row in rows(makemore, f"by={by}")]
    shown = [line.split() for line in makemore("compare", f"by={by}").out.splitlines()[2:]]
    assert [line[2] for line in shown] == ["2.5000", "inf", "-"]


def test_what_is_missing_is_a_dash_in_markdown() -> None:
    trials = pd.array([1, None], dtype="Int64")
    table = pd.DataFrame({"number": [2.5, math.nan], "text": ["a|b", None], "trial": trials})
    *_, first, second = to_markdown(table).splitlines()
    assert first.split() == ["|", "2.5", "|", "a\\|b", "|", "1", "|"]
    assert second.split() == ["|", "-", "|", "-", "|", "-", "|"]


def test_a_confirming_run_that_diverged_makes_the_mean_infinite(makemore: Makemore, workdir: Path) -> None:
    record(workdir, "odd", 0, {"best_dev_loss": 2.5}, tags={"group_hash": "g"})
    diverged = {"kind": "confirm", "group_hash": "g", "config_hash": "other", "confirm_number": "0"}
    record(workdir, "odd", 0, {}, state="PRUNED", tags=diverged)
    assert makemore("compare", "by=setting").out.splitlines()[-1].split()[:6] == ["0", "2", "inf", "-", "-", "-"]


def test_a_file_is_written_where_asked_for(makemore: Makemore, records: MlflowClient, tmp_path: Path) -> None:
    answer = makemore("compare", "study.name=b", "format=csv", f"output={tmp_path}/b.csv")
    assert (answer.code, answer.out) == (0, f"{tmp_path}/b.csv: study b, 2 rows\n")
    assert (tmp_path / "b.csv").read_text() == makemore("compare", "study.name=b", "format=csv").out


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """Opens a file in a browser without a network; gives the page, and what went wrong or was asked of a network."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_context(offline=True, viewport={"width": 1300, "height": 900}).new_page()
        wrong: list[str] = []
        shown.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)

        def show(path: Path) -> tuple[Any, list[str]]:
            shown.goto(path.absolute().as_uri())
            shown.locator(".plotly-graph-div .main-svg").first.wait_for(timeout=30_000)
            if folder := os.environ.get("MAKEMORE_SCREENSHOTS"):  # for whoever wants to look at what was tested
                shown.screenshot(path=str(Path(folder) / f"{path.stem}.png"), full_page=True)
            return shown, wrong

        yield show
        browser.close()


@pytest.mark.slow
def test_the_page_draws_its_pictures_without_a_network(
    makemore: Makemore, records: MlflowClient, tmp_path: Path, page: Any
) -> None:
    answer = makemore("compare", "studies=[a,b]", "format=html", f"output={tmp_path}/page.html", "baseline=a")
    assert (answer.code, answer.out) == (0, f"{tmp_path}/page.html: studies a, b, 5 rows\n")
    shown, wrong = page(tmp_path / "page.html")
    shown.locator(".axis-title").first.wait_for(timeout=30_000)
    assert shown.locator("h2").all_inner_texts() == [
        "Studies", "Learning curves", "Dev loss and the time it took", "What differs", "Runs",
    ]  # fmt: skip
    assert shown.locator(".plotly-graph-div").nth(0).locator(".scatterlayer .trace path.js-line").count() == 5
    assert shown.locator(".plotly-graph-div").nth(1).locator(".scatterlayer .point").count() == 5
    labels = shown.locator(".axis-title").all_text_contents()
    assert {"hidden_neurons", "dev loss"} <= set(labels)
    header, *body = shown.locator("table").nth(1).locator("tr").all_inner_texts()
    assert header.split()[:5] == ["study", "trial", "state", "dev_loss", "difference"]
    assert len(body) == 5
    assert wrong == []


@pytest.mark.slow
def test_hostile_texts_are_only_shown(makemore: Makemore, workdir: Path, page: Any) -> None:
    for number in range(3):
        figures = {"best_dev_loss": 2.5 + number, "train_seconds": 1.0, "dev_loss": 2.5}
        record(workdir, "odd", number, figures, {"data.path": f"{HOSTILE}{number}", "train.note": f"<b>{number}</b>"})
    assert makemore("compare", "format=html").out == "compare.html: study odd, 3 rows\n"
    shown, wrong = page(workdir / "compare.html")
    assert f"{HOSTILE}0" in shown.locator("table td").all_inner_texts()
    assert shown.evaluate("window.broken") is None
    assert shown.locator("img").count() == 0
    assert wrong == []


def test_the_front_is_what_no_other_beats_in_both() -> None:
    runs = pd.DataFrame({"cost": [3, 1, 2, 2, 1, 4], "loss": [1.0, 3.0, 2.0, 1.5, 3.5, 1.0]})
    front = pareto_front(runs, "loss", "cost")
    assert list(zip(front["cost"], front["loss"], strict=True)) == [(1, 3.0), (2, 1.5), (3, 1.0)]


def test_a_short_name_is_no_other_keys() -> None:
    names = short_names(["model.name", "data.name", "schedule.lr", "seed"])
    assert names == {"model.name": "model.name", "data.name": "data.name", "schedule.lr": "lr", "seed": "seed"}
