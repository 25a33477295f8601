import re
from pathlib import Path

from conftest import Makemore

from sweeps.tracking.store import MlflowClient

TINY = ("model.hidden_neurons=20", "lr_find.steps=100", "train.batch_size=16")


def test_it_prints_overrides_to_copy_draws_a_picture_and_leaves_a_run(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("lr-find", *TINY)
    assert answer.code == 0
    [lr] = re.findall(r"^schedule\.lr=(\S+)$", answer.out, re.MULTILINE)
    [words] = re.findall(r"^to search: '(.+)'$", answer.out, re.MULTILINE)
    assert (workdir / "lr_find.png").read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("makemore")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.tags["kind"] == "lr_find"
    assert f"{run.data.metrics['suggested_lr']:.2g}" == lr
    rates = [point.value for point in client.get_metric_history(run.info.run_id, "lr")]
    assert rates == sorted(rates)
    assert rates[0] == 1e-4
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["lr_find.png"]
    # What it prints can be pasted behind the next commands.
    short = ("train.steps=10", "train.evaluations=1")
    assert makemore("train", f"schedule.lr={lr}", *short).code == 0
    assert makemore("sweep", "space=none", words, "study.n_trials=1", *short).code == 0


def test_the_picture_can_be_left_out(makemore: Makemore, workdir: Path) -> None:
    assert makemore("lr-find", *TINY, "lr_find.picture=null").code == 0
    assert not (workdir / "lr_find.png").exists()
