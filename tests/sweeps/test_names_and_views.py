"""What the records call things, and what people see of them in MLflow's UI: studies, lists, models, runs, addresses."""

import json
import math
import re
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import mlflow
import optuna
import pandas as pd
import pytest
from conftest import Makemore, call, fetch, start
from fake_tasks import FAKE
from mlflow.entities import Run
from omegaconf import OmegaConf

from sweeps.config.names import is_study_name
from sweeps.reports.studies import StudyResults
from sweeps.tracking.queries import RunRecord
from sweeps.tracking.runs import start_run
from sweeps.tracking.store import MlflowClient, open_tracking
from sweeps.tracking.views import STUDIES, save_views, study_view

ALONE = ("study.workers=1", "study.confirm.top=0")
COUNTS = ("sweep", "space=none", "model=ngram", "model.order=1,2", *ALONE)
TOWNS = Path(__file__).parents[1] / "towns.txt"
OLD = Path(__file__).parents[1] / "old_store" / "0.1.0.tar.xz"


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")


def runs(folder: Path, kind: str) -> list[Run]:
    return list(client(folder).search_runs(["1"], f"tags.kind = '{kind}'"))


def studies(folder: Path) -> list[str]:
    summaries = optuna.get_all_study_summaries(f"sqlite:///{folder}/mlruns/study.db")
    return [summary.study_name for summary in summaries if "(" not in summary.study_name]


@pytest.fixture
def towns(workdir: Path) -> Path:
    """The current folder, with two lists of one file name."""
    text = TOWNS.read_text(encoding="utf-8")
    (workdir / "other").mkdir()
    (workdir / "towns.txt").write_text(text, encoding="utf-8")
    (workdir / "other" / "towns.txt").write_text(text[::-1], encoding="utf-8")
    return workdir


def test_a_studys_run_tells_its_list_its_space_what_is_fixed_and_what_came_of_it(
    makemore: Makemore, workdir: Path
) -> None:
    study = ("sweep", *FAKE, "task=diverges", "study.name=a", "study.workers=1", "study.confirm.seeds=1")
    space = ("task.level=interval(1.0,4.0)", "sampler=random", "study.seed=1")
    assert makemore(*study, *space, "study.confirm.top=1", "study.n_trials=4").code == 0
    [run] = runs(workdir, "study")
    params = run.data.params
    assert (params["list"], params["space"], params["searched"]) == ("Diverges", "none", "task.level")
    assert (params["space.task.level"], params["task.limit"], params["data.split"]) == ("1.0 to 4.0", "2.0", "disjoint")
    assert "task.level" not in params
    trials = optuna.load_study(study_name="a", storage=f"sqlite:///{workdir}/mlruns/study.db").trials
    states = [trial.state.name for trial in trials]
    metrics = run.data.metrics
    assert metrics["trials"] == 4
    assert metrics["trials_complete"] == states.count("COMPLETE") > 0
    assert metrics["trials_pruned"] == states.count("PRUNED") > 0
    assert metrics["trials_failed"] == 0
    best = min(trial.value for trial in trials if trial.state.name == "COMPLETE")
    assert metrics["best_dev_loss"] == metrics["confirmed_dev_loss"] == pytest.approx(best)
    assert makemore(*study, *space, "study.confirm.top=1", "study.n_trials=6").code == 0
    [again] = runs(workdir, "study")
    assert again.data.params == params
    assert again.data.metrics["trials"] == 6
    curve = client(workdir).get_metric_history(run.info.run_id, "best_dev_loss")
    assert [point.step for point in curve] == [4, 6]


def test_a_confirmed_loss_that_no_longer_holds_is_shown_no_longer() -> None:
    trial = RunRecord("1", "trial", "a", 0, "FINISHED", "COMPLETE", {"best_dev_loss": 2.0}, {}, {}, None)
    fresh, before = (StudyResults("a", [trial], [], [], 1, 1, shown) for shown in ({}, {"confirmed_dev_loss": 1.0}))
    assert "confirmed_dev_loss" not in fresh.metrics
    assert math.isnan(before.metrics["confirmed_dev_loss"])
    assert before.metrics["best_dev_loss"] == 2.0


def test_long_values_many_params_and_long_names_are_recorded_without_a_warning(
    workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracking = {"uri": "sqlite:///mlruns/mlflow.db", "experiment": "makemore", "artifacts": "mlruns/artifacts"}
    store = open_tracking(OmegaConf.create({"tracking": tracking}))
    capfd.readouterr()
    params = {f"task.field_{number}": "long " * 2000 for number in range(250)}
    run = store.client.get_run(start_run(store, "name " * 100, "train", params, {}).run_id)
    assert run.data.params.keys() == params.keys()
    assert {len(value) for value in run.data.params.values()} == {6000}
    assert len(str(run.info.run_name)) == 250  # what PostgreSQL has room for
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("towns.txt", "towns"),
        ("~/lists/towns.v2.txt", "towns.v2"),
        ("2020", "2020"),
        (".hidden", "hidden"),
        ("Villes d'été: 100%.txt", "Villes-d-ete-100"),
        ("города.txt", "44c71bb0"),
        (f"{'long' * 50}.txt", "long" * 15),
    ],
)
def test_a_study_is_named_by_its_list(makemore: Makemore, workdir: Path, path: str, part: str) -> None:
    assert is_study_name(f"quick-{part}")
    quoted = path.replace("'", "\\'")
    shown = makemore("sweep", "data=file", f"data.path='{quoted}'", "--cfg=job", "--resolve").out
    assert OmegaConf.create(shown).study.name == f"quick-{part}"
    assert OmegaConf.create(makemore("sweep", "--cfg=job", "--resolve").out).study.name == "quick-given_names"
    own = makemore("sweep", *FAKE, "task=instant", "--cfg=job", "--resolve").out
    assert OmegaConf.create(own).study.name == "none-Instant"


def test_a_list_that_is_not_given_is_asked_for(makemore: Makemore, workdir: Path) -> None:
    for command in (COUNTS, ("train",)):
        answer = makemore(*command, "data=file")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "data.path is not given" in answer.err


def test_another_list_of_the_same_file_name_is_refused_with_the_cure(makemore: Makemore, towns: Path) -> None:
    assert makemore(*COUNTS, "data=file", "data.path=towns.txt").code == 0
    assert studies(towns) == ["none-towns"]
    other = (*COUNTS, "data=file", "data.path=other/towns.txt")
    answer = makemore(*other)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"was made with another list, {towns}/towns.txt, or {towns}/other/towns.txt has changed" in answer.err
    assert "give another study.name, such as study.name=none-towns-2" in answer.err
    assert makemore(*other, "study.name=none-towns-2").code == 0
    assert makemore(*COUNTS, "data=file", "data.path=towns.txt").code == 0  # the first goes on
    assert studies(towns) == ["none-towns", "none-towns-2"]


def test_a_study_under_an_earlier_versions_default_name_is_named(makemore: Makemore, towns: Path) -> None:
    mine = (*COUNTS, "data=file", "data.path=towns.txt")
    assert makemore(*mine, "study.name=none-file").code == 0  # as the version before named it
    answer = makemore(*mine)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "give study.name=none-file to go on with it, or study.name=none-towns to start another" in answer.err
    assert studies(towns) == ["none-file"]
    assert makemore(*mine, "study.name=none-file").code == 0
    assert makemore(*COUNTS, "data=file", "data.path=other/towns.txt").code == 0  # that study is of another list
    assert makemore(*mine, "study.name=none-towns-2").code == 0


@pytest.mark.slow
@pytest.mark.extras
def test_models_and_datasets_are_named_by_their_lists(
    makemore: Makemore, towns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    awkward = 'a: 100%\'s "list".txt'
    (towns / awkward).write_text(TOWNS.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    lists = {"given": "", "first": "towns.txt", "second": "other/towns.txt", "awkward": awkward}
    for study, path in lists.items():
        quoted = path.replace("'", "\\'")
        data = ("data=file", f"data.path='{quoted}'") if path else ()
        assert makemore(*COUNTS, *data, f"study.name={study}", "study.pictures=false").code == 0
    registry = client(towns)
    versions = {version.tags["study"]: version for version in registry.search_model_versions()}
    digest = versions["second"].tags["source_digest"]
    assert {study: version.name for study, version in versions.items()} == {
        "given": "makemore-given_names",
        "first": "makemore-towns.txt",
        "second": f"makemore-towns.txt-{digest[:8]}",
        "awkward": "makemore-a--100--s--list-.txt",
    }
    best = min(run.data.metrics["best_dev_loss"] for run in runs(towns, "trial") if run.data.tags["study"] == "first")
    version = versions["first"]
    assert float(version.tags["dev_loss"]) == best
    assert f"Winner of study first: trial {version.tags['trial']}, dev loss {best:.4f}, on towns.txt" in str(
        version.description
    )
    datasets = {
        run.data.tags["study"]: [given.dataset.name for given in run.inputs.dataset_inputs]
        for run in runs(towns, "study")
    }
    assert datasets["second"] == ["towns.txt-disjoint-train", "towns.txt-disjoint-dev"]
    assert datasets["awkward"][0] == f"{awkward}-disjoint-train"
    for run in runs(towns, "study"):
        for given in run.inputs.dataset_inputs:
            assert json.loads(given.dataset.source)["uri"].endswith(".txt")
    models = registry.search_logged_models(["1"])
    assert {model.name for model in models} >= {f"first-trial-{version.tags['trial']}"}
    assert {str(model.status) for model in models} == {"READY"}
    [metric] = next(model for model in models if model.source_run_id == version.run_id).metrics
    assert (metric.key, metric.value, metric.dataset_name) == ("best_dev_loss", best, "towns.txt-disjoint-dev")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{towns}/mlruns/mlflow.db")
    model = mlflow.pyfunc.load_model(f"models:/{versions['awkward'].name}/1")
    assert model.predict(pd.DataFrame({"context": [""]})).sum(axis=1).tolist() == pytest.approx([1])


@pytest.mark.slow
@pytest.mark.extras
def test_a_model_that_was_half_logged_is_logged_once(makemore: Makemore, workdir: Path) -> None:
    study = (*COUNTS, "study.name=a", "study.pictures=false")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", None)  # as if the process had died before
        assert "no model in the registry" in makemore(*study).err
    assert client(workdir).search_model_versions() == []
    assert "no model" not in makemore(*study).err
    assert len(client(workdir).search_model_versions()) == 1
    assert [str(model.status) for model in client(workdir).search_logged_models(["1"])] == ["READY"]


def test_runs_are_named_by_what_tells_them_apart_and_say_why_they_ended(makemore: Makemore, workdir: Path) -> None:
    tiny = ("train.steps=5", "train.evaluations=1")
    assert makemore("train", *tiny, "schedule.lr=0.001").code == 0
    assert makemore("train", *FAKE[:2], "task=instant", "task.level=2.5").code == 0
    levels = "task.level=1.0,3.0"
    assert makemore("sweep", *FAKE, "task=diverges", levels, "study.name=a", *ALONE).code == 0
    plain, own = sorted(str(run.info.run_name) for run in runs(workdir, "train"))[::-1]
    assert plain.startswith("mlp steps=5 evaluations=1 lr=0.001 block_size=3 ")
    assert own == "instant level=2.5"
    notes = {run.info.run_name: run.data.tags["mlflow.note.content"] for run in runs(workdir, "trial")}
    assert re.match(r"Dev loss \*\*1\.\d{4}\*\* \(loss per term\); 1 weights, ", notes["#000 level=1"])
    assert notes["#001 level=3"] == "Not complete: Diverged: the dev loss is nan at step 1"
    [study] = runs(workdir, "study")
    [winner] = [run for run in runs(workdir, "trial") if run.info.run_name == "#000 level=1"]
    page = f"#/experiments/1/runs/{winner.info.run_id}?workflowType=machine_learning"
    assert f"[{winner.info.run_id}]({page})" in study.data.tags["mlflow.note.content"]


def pages(folder: Path, *arguments: str) -> dict[str, str]:
    """The addresses that `makemore ui` prints, by what they show; it is ended when it serves its pages."""
    process = start("ui", *arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    address = re.search(r"http://\S+", lines[0])
    assert address
    fetch(address[0])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    return dict(line.strip().split(": ", 1) for line in lines[1:])


def query(address: str) -> dict[str, str]:
    return {key: value for key, [value] in parse_qs(urlsplit(urlsplit(address).fragment).query).items()}


@pytest.mark.slow
def test_the_ui_prints_the_addresses_of_a_studys_trials_and_of_all_studies(makemore: Makemore, workdir: Path) -> None:
    for name in ("first", "second"):
        study = ("sweep", *FAKE, "task=instant", f"study.name={name}", *ALONE)
        assert makemore(*study, "task.level=1.0,2.0").code == 0
    newest = pages(workdir)
    assert list(newest) == ["trials of the newest study, second", "its notes and pictures", "all studies"]
    shown = query(newest["trials of the newest study, second"])
    assert shown == {"workflowType": "machine_learning", "viewStateShareKey": "study-second"}
    assert query(newest["all studies"])["viewStateShareKey"] == "studies"
    tags = client(workdir).get_experiment("1").tags
    state: dict[str, Any] = json.loads(json.loads(tags["mlflow.sharedViewState.study-first"])["state"])
    assert state["searchFilter"] == "tags.kind = 'trial' and tags.study = 'first'"
    assert state["selectedColumns"][:2] == ["metrics.`best_dev_loss`", "params.`task.level`"]
    answer = makemore("ui", "study.name=third")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "study.name is third" in answer.err


@pytest.mark.slow
def test_a_study_without_a_saved_view_has_an_address_too(tmp_path: Path) -> None:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    shown = query(pages(tmp_path, "study.name=old")["trials of old"])
    assert shown == {
        "workflowType": "machine_learning",
        "searchFilter": "tags.kind = 'trial' and tags.study = 'old'",
        "orderByKey": "metrics.`best_dev_loss`",
        "orderByAsc": "true",
    }


def test_a_view_that_is_too_long_for_a_tag_is_not_saved(workdir: Path) -> None:
    tracking = {"uri": "sqlite:///mlruns/mlflow.db", "experiment": "makemore", "artifacts": "mlruns/artifacts"}
    store = open_tracking(OmegaConf.create({"tracking": tracking}))
    save_views(store, STUDIES, study_view("a", [f"task.a_long_name_{number}" for number in range(500)]))
    assert "mlflow.sharedViewState.studies" in store.client.get_experiment(store.experiment_id).tags
    assert "searchFilter" in study_view("a").address(store)


@pytest.mark.nightly
def test_a_server_has_the_same_names_and_addresses(tmp_path: Path, server: str) -> None:
    uri = f"tracking.uri={server}"
    call(tmp_path, *COUNTS, "study.name=a", "study.pictures=false", uri)
    lines = call(tmp_path, "ui", uri).splitlines()
    assert lines[1].startswith(f"trials of the newest study, a: {server}/#/experiments/1/runs?workflowType=")
    process = start(*COUNTS, "study.name=a", "study.pictures=false", uri, extras=True, cwd=tmp_path)
    assert process.wait(timeout=120) == 0
    [version] = MlflowClient(tracking_uri=server).search_model_versions()
    assert version.name == "makemore-given_names"
