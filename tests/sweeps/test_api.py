"""The public Python API, and the notebook that uses it."""

import math
from pathlib import Path

import nbclient
import nbformat
import pytest

import sweeps
from sweeps.errors import RequestError

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = (
    "study.name=a",
    "space=none",
    "pruner=none",
    "model.hidden_neurons=8,16",
    "train.steps=40",
    "study.n_trials=2",
    "study.workers=1",
    "study.confirm.top=1",
    "study.confirm.seeds=1",
    "study.pictures=false",
    "study.register=false",
)


def test_a_study_is_run_and_read_back(workdir: Path) -> None:
    study = sweeps.run_study(*TINY)
    assert list(study.trials["state"]) == ["COMPLETE", "COMPLETE"]
    assert study.trials["confirmed_mean"].notna().sum() == 1
    winner = study.winner
    assert winner is not None
    curve = winner.curve()
    assert curve["step"].iloc[-1] == 40
    assert winner.dev_loss == pytest.approx(curve["dev_loss"].min(), abs=1e-6)
    losses = winner.dev_losses()
    assert losses["loss"].sum() / losses["terms"].sum() == pytest.approx(winner.dev_loss, abs=1e-9)
    assert (losses["terms"] == losses["item"].str.len() + 1).all()
    words = winner.sample(5, prefix="ma")
    assert len(words) == 5
    assert all(word.startswith("ma") for word in words)
    assert sum(parameter.numel() for parameter in winner.model().module.parameters()) > 0
    again = sweeps.load_study()  # the newest
    assert again.name == "a"
    assert again.winner is not None
    assert again.winner.run_id == winner.run_id
    run = sweeps.load_run(winner.run_id[:12])
    assert run.params["model"] == "mlp"
    assert math.isfinite(run.dev_loss)
    pictures = study.pictures()
    assert {"Optimisation history", "Learning curves"} <= set(pictures)


def test_a_wrong_request_is_one_line_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"model\.block_sze is not a key of model=mlp; did you mean block_size\?"):
        sweeps.run_study("space=none", "model.block_sze=2,3")
    with pytest.raises(RequestError, match="there are no records yet"):
        sweeps.load_study("a")
    assert list(tmp_path.iterdir()) == []


def test_a_study_of_one_complete_trial_has_no_pictures(workdir: Path) -> None:
    study = sweeps.run_study(*TINY, "study.n_trials=1")
    with pytest.raises(RequestError, match="has 1 complete trials; pictures need two"):
        study.pictures()


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # outputs are not kept in git
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert notebook.cells[-1].outputs[0]["data"]["text/plain"] == "True"
