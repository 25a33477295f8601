"""What a study's run in MLflow shows."""

import json
import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import Makemore
from PIL import Image

import sweeps.study.report
from sweeps.reports.study_pictures import StudyPictures
from sweeps.study.report import StudyReport
from sweeps.tracking.store import MlflowClient

STUDY = ("sweep", "study.name=rivers", "study.workers=1", "train.steps=60", "study.confirm.seeds=2")


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")


def study_run(folder: Path) -> Any:
    [run] = client(folder).search_runs(["1"], "tags.kind = 'study'")
    return run


def artifacts(folder: Path, run: Any) -> Path:
    return folder / "mlruns" / "artifacts" / run.info.run_id / "artifacts"


@pytest.mark.extras
def test_a_finished_study_has_notes_a_leaderboard_pictures_and_a_registered_model(
    makemore: Makemore, workdir: Path
) -> None:
    answer = makemore(*STUDY, "study.n_trials=12", "study.confirm.top=2", "pruner=median")
    assert (answer.code, answer.err.count("makemore:")) == (0, 0), answer.err
    assert re.search(r"0\.\d{4} (below|above) trial 0, the lecture's sizes \(\d\.\d{4}", answer.out)
    mattered = re.search(
        r"(mattered most: \S+ \d+% \(\d+% to \d+%\)|what mattered most cannot be told yet)", answer.out
    )
    assert mattered
    run = study_run(workdir)
    notes = run.data.tags["mlflow.note.content"]
    assert "Winner, confirmed with fresh seeds: trial" in notes
    assert "the lecture's sizes" in notes
    assert mattered[1] in notes
    assert "| model.hidden_neurons | 50 to 400, log |" in notes
    folder = artifacts(workdir, run)
    board = json.loads((folder / "leaderboard.json").read_text())
    losses = pd.DataFrame(board["data"], columns=board["columns"])
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "leaderboard.json", "type": "table"}]
    assert len(losses) == len(pd.read_csv(folder / "leaderboard.csv")) == 12
    assert losses.loc[losses["state"] == "COMPLETE", "best_dev_loss"].is_monotonic_increasing
    page = (folder / "pictures.html").read_text()
    for heading in ("Optimisation history", "What mattered", "Parallel coordinates", "Learning curves", "time it took"):
        assert heading in page
    assert "https://" not in re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.DOTALL)  # but for plotly's own
    names = (
        "contour learning_curves loss_against_cost optimization_history parallel_coordinates param_importances slice"
    )
    assert sorted(path.stem for path in (folder / "pictures").iterdir()) == names.split()
    for path in (folder / "pictures").iterdir():
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 5, path  # there is something on it
    [winner] = re.findall(r"winner: trial (\d+)", answer.out)
    [version] = client(workdir).search_model_versions("name = 'makemore-given_names'")
    assert version.tags["trial"] == winner
    assert not list((workdir / "mlruns").rglob("*.pkl"))


@pytest.mark.extras
def test_the_registered_model_gives_probabilities_and_words(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert makemore(*STUDY, "study.n_trials=2", "study.confirm.top=0").code == 0
    assert makemore(*STUDY, "study.n_trials=2", "study.confirm.top=0").code == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workdir}/mlruns/mlflow.db")
    [version] = client(workdir).search_model_versions(
        "name = 'makemore-given_names'"
    )  # one, though the command ran twice
    model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
    contexts = pd.DataFrame({"context": ["", "ma", "a long beginning of a word".replace(" ", "")]})
    probabilities = model.predict(contexts)
    assert probabilities.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    words = model.predict(contexts, params={"n": 5, "seed": 1})
    assert len(words) == 15
    assert all(word.startswith(context) for context, word in zip(words["context"], words["word"], strict=True))
    assert words.equals(model.predict(contexts, params={"n": 5, "seed": 1}))
    with pytest.raises(Exception, match="the character '!' is not one of"):
        model.predict(pd.DataFrame({"context": ["!"]}))


@pytest.mark.extras
def test_notes_and_pictures_are_brought_up_to_date_while_the_study_runs(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def attempt(what: str, action: object) -> None:
        seen.append(f"{what}; {study_run(workdir).data.tags['mlflow.note.content'].splitlines()[0]}")

    monkeypatch.setattr(sweeps.study.report, "_attempt", attempt)
    monkeypatch.setattr(sweeps.study.report, "_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(sweeps.study.report, "_SHARE", 1e9)
    assert makemore(*STUDY, "study.n_trials=4", "study.confirm.top=0", "pruner=none").code == 0
    drawn = [line for line in seen if line.startswith("pictures")]
    assert "3 complete" in drawn[1]
    assert "4 complete" in drawn[-1]


def test_pictures_take_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    updates: list[float] = []

    def write_notes(record: StudyReport) -> tuple[None, None]:
        updates.append(clock[0])
        clock[0] += 3.0
        return None, None

    monkeypatch.setattr(sweeps.study.report.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(StudyReport, "_write_notes", write_notes)
    record = StudyReport(None, None, None, None, None, "", None, [])  # type: ignore[arg-type]
    while clock[0] < 3600:
        record.update_if_due()
        clock[0] += 0.5
    assert updates[0] == pytest.approx(60, abs=1)
    assert len(updates) >= 5
    assert 3 * len(updates) < 0.006 * 3600 + 3


@pytest.mark.extras
def test_a_study_does_not_fail_for_want_of_pictures(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: StudyPictures) -> str:
        raise ValueError("no\ncolours")

    monkeypatch.setattr(StudyPictures, "page", explode)
    answer = makemore(*STUDY, "study.n_trials=2", "study.confirm.top=0")
    assert answer.code == 0
    assert "makemore: no pictures of the study: ValueError: no; colours" in answer.err
    assert study_run(workdir).info.status == "FINISHED"


def test_a_study_without_a_complete_trial_says_so_in_its_notes(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*STUDY, "study.n_trials=2", "optimizer=sgd", "schedule.lr=1e6,1e7", "optimizer.weight_decay=0")
    assert answer.code == 1
    assert "No trial is complete yet." in study_run(workdir).data.tags["mlflow.note.content"]


def test_a_run_says_what_stands_out_in_its_description(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", "model.hidden_neurons=5", "model.embedding_size=2", "train.steps=3000")
    assert answer.code == 0
    assert "underfitting: train (" in answer.out
    [run] = client(workdir).search_runs(["1"], "tags.kind = 'train'")
    assert run.data.tags["diagnosis"] == "underfitting"
    assert "- **underfitting**: train (" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["gap"] == run.data.metrics["best_dev_loss"] - run.data.metrics["best_train_loss"]
    files = {path.name for path in artifacts(workdir, run).iterdir()}
    kept = {"config.yaml", "weights.safetensors", "dev_losses.safetensors", "samples.txt"}
    assert files == {*kept, "embedding.png", "loss_curve.png"}


def test_a_pruned_trial_keeps_how_far_it_came(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*STUDY, "study.n_trials=8", "study.confirm.top=0", "pruner=asha", "study.seed=3").code == 0
    pruned = client(workdir).search_runs(["1"], "tags.trial_state = 'PRUNED'")
    assert pruned
    assert all(0 < run.data.metrics["steps"] < 60 for run in pruned)
