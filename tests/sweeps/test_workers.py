"""Studies that several processes work on: exact totals whatever dies, joins or is interrupted."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Makemore, call, start
from fake_tasks import FAKE
from optuna.trial import FrozenTrial

from sweeps.cli import run
from sweeps.tracking.store import MlflowClient

TINY = ("train.steps=20", "train.evaluations=2", "train.batch_size=8", "model.hidden_neurons=int(interval(4,16))")
STUDY = ("sweep", "study.name=a", "study.workers=2", *TINY)
FINISHED = ("COMPLETE", "PRUNED")


def trials(folder: Path, name: str = "a", storage: str | None = None) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=storage or f"sqlite:///{folder}/mlruns/study.db").trials


def runs(folder: Path, kind: str) -> list[Any]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    return list(client.search_runs(["1"], f"tags.kind = '{kind}'"))


def finished(all_trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in all_trials if trial.state.name in FINISHED]


def check_records_agree(folder: Path) -> None:
    """Each run has ended as its trial did, and a trial that did not finish was tried again."""
    for kind, name, tag in (("trial", "a", "trial_number"), ("confirm", "a (confirm)", "confirm_number")):
        recorded = trials(folder, name)
        for one in runs(folder, kind):
            trial = recorded[int(one.data.tags[tag])]
            status = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "KILLED"}[trial.state.name]
            assert (one.info.status, one.data.tags["trial_state"]) == (status, trial.state.name)
        for trial in recorded:
            again = [other for other in recorded if other.user_attrs.get("retry_of") == trial.number]
            assert len(again) == (trial.state.name == "FAIL")
            for other in again:  # what it was queued with, where it died before it had drawn
                setting = {**other.system_attrs.get("fixed_params", {}), **other.params}
                assert trial.params.items() <= setting.items()


def test_two_workers_bring_a_study_to_its_total_and_confirm_its_best(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*STUDY, "study.n_trials=9", "study.confirm.top=2", "study.confirm.seeds=2")
    assert answer.code == 0
    assert len(trials(workdir)) == len(finished(trials(workdir))) == 9
    assert len({trial.user_attrs["worker"] for trial in trials(workdir)}) == 2
    assert [trial.state.name for trial in trials(workdir, "a (confirm)")] == ["COMPLETE"] * 4
    assert "trained again with fresh seeds" in answer.out
    check_records_agree(workdir)
    assert sorted(path.name for path in (workdir / "mlruns/outputs/a").iterdir()) == [*map(str, range(9)), "confirm"]
    assert [one.info.status for one in runs(workdir, "study")] == ["FINISHED"]


def test_what_a_trial_draws_does_not_depend_on_who_runs_it(makemore: Makemore, workdir: Path) -> None:
    arguments = (*STUDY, "sampler=random", "pruner=none", "study.n_trials=6", "study.confirm.top=0")
    assert makemore(*arguments).code == 0
    assert makemore(*arguments, "study.name=b", "study.workers=1").code == 0
    assert [trial.params for trial in trials(workdir)] == [trial.params for trial in trials(workdir, "b")]
    assert [trial.value for trial in trials(workdir)] == [trial.value for trial in trials(workdir, "b")]


def wait_for_training(folder: Path, process: "subprocess.Popen[str]") -> FrozenTrial:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        if (folder / "mlruns/study.db").exists() and runs(folder, "trial"):
            found = [trial for trial in trials(folder) if trial.state.name == "RUNNING" and trial.intermediate_values]
            if found:
                return found[0]
    raise AssertionError("no trial was trained within a minute")


@pytest.mark.slow
def test_the_death_of_a_worker_costs_its_trial_which_is_tried_again(workdir: Path) -> None:
    arguments = ("sweep", "study.name=a", "study.workers=2", "study.n_trials=4", "pruner=none", "study.confirm.top=1")
    process = start(*arguments, "train.steps=8000", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    victim = wait_for_training(workdir, process)
    os.kill(int(victim.user_attrs["worker"].split("-")[-2]), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert Counter(trial.state.name for trial in trials(workdir)) == {"COMPLETE": 4, "FAIL": 1}
    assert trials(workdir)[victim.number].state.name == "FAIL"
    check_records_agree(workdir)


@pytest.mark.slow
def test_an_interrupted_study_records_its_trials_and_tries_them_again(workdir: Path) -> None:
    arguments = ("sweep", "study.name=a", "study.workers=2", "study.n_trials=4", "pruner=none", "study.confirm.top=1")
    process = start(*arguments, "train.steps=4000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_training(workdir, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    stopped = [trial for trial in trials(workdir) if trial.state.name == "FAIL"]
    assert stopped
    assert all(trial.user_attrs["reason"] == "interrupted" for trial in stopped)
    assert not [one for one in runs(workdir, "trial") if one.info.status == "RUNNING"]
    call(workdir, *arguments, "train.steps=4000")
    assert len(finished(trials(workdir))) == 4
    check_records_agree(workdir)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie that nobody has waited for."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to look for processes in")
def test_workers_end_when_the_process_that_started_them_is_gone(workdir: Path) -> None:
    arguments = ("sweep", "study.name=a", "study.workers=2", "study.n_trials=4", "pruner=none", "train.steps=1000000")
    process = start(*arguments, "train.evaluations=100000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_training(workdir, process)
    workers = [int(trial.user_attrs["worker"].split("-")[-2]) for trial in trials(workdir)]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, workers))
    assert all(trial.user_attrs["reason"] == "interrupted" for trial in trials(workdir) if trial.state.name == "FAIL")


def sweep_in_a_group_of_its_own(arguments: tuple[str, ...]) -> None:
    os.setsid()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        code = run(list(arguments))
    os._exit(code)


@pytest.mark.nightly
def test_after_twenty_kills_at_random_moments_every_total_is_exact(workdir: Path) -> None:
    confirm = ("study.confirm.top=2", "study.confirm.seeds=3")
    arguments = ("sweep", "study.name=a", "study.workers=2", "study.n_trials=40", "train.steps=200", *confirm)
    moments, kills = random.Random(0), 0
    while kills < 20:
        # A fork spares the seconds of importing, in which there is nothing to be killed.
        process = multiprocessing.get_context("fork").Process(target=sweep_in_a_group_of_its_own, args=(arguments,))
        process.start()
        process.join(moments.uniform(0.3, 2.0))
        if process.is_alive():
            kills += 1
            os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
        else:
            assert process.exitcode == 0
            total = int(arguments[3].partition("=")[2]) + 40
            arguments = (*arguments[:3], f"study.n_trials={total}", *arguments[4:])
    call(workdir, *arguments)
    recorded = trials(workdir)
    total = int(arguments[3].partition("=")[2])
    assert len(finished(recorded)) == total
    assert all(trial.state.is_finished() for trial in recorded)
    assert len({json.dumps(trial.params) for trial in finished(recorded)}) == total  # none twice
    best = sorted((trial for trial in recorded if trial.state.name == "COMPLETE"), key=lambda trial: trial.value or 0)
    confirmed = Counter(
        trial.user_attrs["confirms"] for trial in trials(workdir, "a (confirm)") if trial.state.name == "COMPLETE"
    )
    assert [confirmed[trial.number] for trial in best[:2]] == [3, 3]
    check_records_agree(workdir)
    assert [one.info.status for one in runs(workdir, "study")] == ["FINISHED"]


@pytest.mark.nightly
def test_four_processes_on_postgresql_and_a_server_run_a_hundred_trials_and_none_twice(
    tmp_path: Path, postgresql: tuple[str, str], server: str
) -> None:
    where = (f"study.storage='{postgresql[0]}'", f"tracking.uri={server}")
    arguments = ("sweep", "study.name=a", "study.n_trials=100", "study.workers=1", "study.confirm.top=1", *TINY, *where)
    folders = [tmp_path / str(number) for number in range(4)]  # as if each were a machine of its own
    for folder in folders:
        folder.mkdir()
    processes = [start(*arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for folder in folders]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    script = (
        "import collections, json, optuna, sys\n"
        "study = optuna.load_study(study_name='a', storage=sys.argv[1])\n"
        "print(json.dumps([[t.state.name, t.user_attrs['worker'], t.params] for t in study.trials]))"
    )
    printed = subprocess.run([sys.executable, "-c", script, postgresql[0]], capture_output=True, text=True, check=True)
    recorded = json.loads(printed.stdout)
    assert len(recorded) == 100
    assert {state for state, _, _ in recorded} <= set(FINISHED)
    assert len({worker for _, worker, _ in recorded}) == 4
    assert len({json.dumps(params) for _, _, params in recorded}) == 100
    table = json.loads(call(folders[0], "compare", "study.name=a", "format=json", where[1]))
    assert sorted(row["trial"] for row in table) == list(range(100))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [pytest.param("joblib", marks=pytest.mark.nightly), "submitit_local"])
def test_the_jobs_of_a_launcher_are_workers_of_the_study(tmp_path: Path, launcher: str) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    arguments = (*STUDY, f"hydra/launcher={launcher}", "study.confirm.top=1", "study.confirm.seeds=2")
    # Long enough that the first job, alone, does not come to the end of them.
    call(tmp_path, *arguments, "study.n_trials=12", "pruner=none", "train.steps=10000")
    assert len(finished(trials(tmp_path))) == len(trials(tmp_path)) == 12
    workers = {trial.user_attrs["worker"] for trial in trials(tmp_path)}
    assert len(workers) == 2
    check_records_agree(tmp_path)


@pytest.mark.slow
def test_the_jobs_of_a_launcher_can_have_several_workers(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    task = (*FAKE, "task=slow", "task.seconds=0.2", "task.level=interval(1,2)")  # long enough for both to start
    jobs = ("study.workers=2", "study.workers_per_job=2", "hydra/launcher=submitit_local")
    small = ("study.name=a", "study.n_trials=10", "study.confirm.top=1", "study.confirm.seeds=1")
    call(tmp_path, "sweep", *task, *jobs, *small)
    assert len(finished(trials(tmp_path))) == len(trials(tmp_path)) == 10
    assert len({trial.user_attrs["worker"] for trial in trials(tmp_path)}) == 2
    assert len(list((tmp_path / "mlruns").rglob("*_log.out"))) == 1  # a file of each job
    check_records_agree(tmp_path)


def test_workers_per_job_without_a_launcher_is_refused(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("sweep", "space=none", "model.block_size=2,3", "study.workers_per_job=4")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "study.workers_per_job is 4" in answer.err
    assert [path.name for path in (workdir / "mlruns").iterdir()] == ["mlflow.db"]  # which was there


def test_each_worker_sees_one_of_the_cuda_devices(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    levels = "task.level=interval(1,2)"
    words = (*FAKE, "task=sees_device", levels, "study.n_trials=9", "study.confirm.top=0", "study.name=a")
    assert makemore("sweep", *words, "study.workers=3").code == 0
    runs = MlflowClient(f"sqlite:///{workdir}/mlruns/mlflow.db").search_runs(["1"], "tags.kind = 'trial'")
    assert {run.data.metrics["device"] for run in runs} == {5, 7}
    worker_of = {trial.user_attrs["run_id"]: trial.user_attrs["worker"] for trial in trials(workdir)}
    seen = {(worker_of[run.info.run_id], run.data.metrics["device"]) for run in runs}
    assert len(seen) == len({worker for worker, _ in seen})  # the same one in all trials


@pytest.mark.slow
def test_workers_can_be_spawned_where_they_cannot_be_forked(tmp_path: Path) -> None:
    script = (
        "import sweeps.study.processes\n"
        "sweeps.study.processes.start_method = lambda device: 'spawn'\n"
        "from sweeps.cli import main\n"
        "main()"
    )
    arguments = (*STUDY, "study.n_trials=4", "study.confirm.top=1", "study.confirm.seeds=1")
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(finished(trials(tmp_path))) == 4
    check_records_agree(tmp_path)
