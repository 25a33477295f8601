"""Runs recorded on a real MLflow server."""

import json
from pathlib import Path

import pytest
from conftest import call


@pytest.mark.slow
def test_a_study_is_recorded_on_a_server_with_its_files(tmp_path: Path, server: str) -> None:
    folder = tmp_path / "client"
    folder.mkdir()

    tiny = ("study.n_trials=2", "pruner=none", "train.steps=20", "train.evaluations=2")
    out = call(folder, "sweep", "study.name=a", f"tracking.uri={server}", *tiny)
    assert "View run" not in out
    assert len(json.loads(call(folder, "compare", "study.name=a", "format=json", f"tracking.uri={server}"))) == 2
    assert "are not among the training words" in call(folder, "sample", "n=3", f"tracking.uri={server}")
    assert not (folder / "mlruns" / "mlflow.db").exists()
    assert not (folder / "mlruns" / "artifacts").exists()
