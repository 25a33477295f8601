"""Commands as a user types them: what they print, their exit codes and what they leave behind."""

import itertools
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from conftest import Answer, Makemore, start
from fake_tasks import FAKE
from omegaconf import DictConfig, OmegaConf

import sweeps.tracking.store
from sweeps.cli import COMMANDS
from sweeps.config.files import conf_dir
from sweeps.tracking.store import MlflowClient

TINY = ("train.steps=20", "train.evaluations=2", "model.hidden_neurons=8", "train.batch_size=8")


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_run_prints_its_dev_loss_and_leaves_nothing_but_records(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", *TINY)
    assert answer.code == 0
    assert answer.out.startswith("dev loss ")
    assert {path.name for path in workdir.iterdir()} == {"mlruns"}
    records = {path.name for path in (workdir / "mlruns").iterdir() if not path.name.endswith(("-wal", "-shm"))}
    assert records == {"mlflow.db", ".mlflow.db.schema.lock", "artifacts"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(makemore: Makemore, workdir: Path, command: str) -> None:
    trains = command in ("train", "sweep", "lr-find", "ladder")
    for arguments in (["--cfg", "job"], ["study.name=a", "--cfg", "job"]):
        answer = makemore(command, *arguments)
        assert answer.code == 0
        assert "tracking:" in answer.out
        assert len(answer.out.splitlines()) < 250  # of ladder, the settings that it searches among them
        assert ("block_size: 3" in answer.out) == trains


NAMES = [f"{group}.name" for group in ("task", "data", "model", "optimizer", "schedule")]  # chosen as GROUP=NAME
ONE = ("space.params", "space.conditions", "pruner.wrapped_pruner")  # keys of no fixed keys
OF_STUDIES = ("study.", "space.", "sampler.", "pruner.", "hooks.")


def keys_of(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a config."""
    for key in map(str, node):
        dotted, value = f"{prefix}{key}", None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(value, DictConfig) and value and dotted not in ONE and not prefix.startswith("ladder.rungs"):
            yield from keys_of(value, f"{dotted}.")
        elif not key.startswith("_") and dotted not in NAMES:
            yield dotted


def check_that_all_keys_are_explained(makemore: Makemore, command: str, *overrides: str) -> None:
    answer = makemore(command, "--help", *overrides)
    assert (answer.code, answer.err) == (0, "")
    composed = OmegaConf.create(makemore(command, "--cfg", "job", *overrides).out)
    assert isinstance(composed, DictConfig)
    lines = answer.out.partition("\nGroups:")[0].splitlines()
    words = {}  # what stands behind the value, or in the next line
    for line, after in itertools.pairwise([*lines, ""]):
        key, is_key, value = line.partition("=")
        if is_key and re.match(r"  [a-z]", line):
            words[key.strip()] = (re.split(r"   +", value) + re.findall(r"^ {34}.*", after))[1:]
    for key in keys_of(composed):
        assert bool(words.get(key)) == (not key.startswith(OF_STUDIES) or command not in ("train", "lr-find")), key


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_key_of_a_command(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    check_that_all_keys_are_explained(makemore, command)
    assert list(workdir.iterdir()) == [workdir / "mlruns"]


def test_help_explains_the_keys_of_every_file_of_a_group(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    files = [
        path for path in sorted(conf_dir().glob("*/*.yaml")) if path.parent.name != "hydra" and path.stem != "file"
    ]
    groups = makemore("sweep", "--help").out.partition("\nGroups:")[2]
    for path in files:
        assert re.search(rf"\n  {path.parent.name}={path.stem}  +\S", groups), path
    choices = [
        [f"{group}={path.stem}" for path in paths]
        for group, paths in itertools.groupby(files, lambda path: path.parent.name)
        if group not in ("space", "experiment")  # these set the keys of others
    ]
    for overrides in itertools.zip_longest(*choices):  # each file once
        check_that_all_keys_are_explained(makemore, "sweep", *filter(None, overrides))


def test_help_is_about_what_was_asked_for(makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    train, sweep = (makemore(command, "-h").out for command in ("train", "sweep"))
    assert "study.n_trials=40" in sweep
    assert "study.n_trials" not in train
    assert makemore("train", "--help", "--multirun").out == sweep
    assert "train.steps=12345" in makemore("train", "train.steps=12345", "--help").out
    assert "schedule.decay_at=0.5 " in makemore("train", "schedule=step", "--help").out
    own = workdir / "own" / "model"
    own.mkdir(parents=True)
    (own / "tree.yaml").write_text("# Grows.\n_target_: tree.Tree\nblock_size: 4\ndepth: 3 # of each tree\n")
    told = makemore("train", "--config-dir", str(workdir / "own"), "model=tree", "--help").out
    assert re.search(r"model\.depth=3 +of each tree", told)
    assert re.search(r"model=tree +Grows\.", told)
    assert max(map(len, sweep.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "model.block_size=0"], "model.block_size is 0; it must be >= 1"),
        (
            ["train", "model.blok_size=3"],
            "model.blok_size is not a key of model=mlp; did you mean block_size? it must be block_size, embedding_size",
        ),
        (["train", "schedule=cosin"], "schedule is cosin; did you mean cosine? it must be constant, cosine"),
        (
            ["train", "schedule.decay_at=0.5"],
            "schedule.decay_at is not a key of schedule=cosine; it must be lr, warmup or",
        ),
        (
            ["train", "modle=mlp"],
            "modle is not a key; did you mean model? it must be study, looks, tracking, task, data, model",
        ),
        (["train", "experment=best"], "experment is not a key; did you mean experiment? it must be study"),
        (["train", "study.nam=x"], "study.nam is not a key of study; did you mean name? it must be name, storage"),
        (["compare", "topp=3"], "topp is not a key; did you mean top? it must be"),
        (["train", "model.block_size=("], "model.block_size="),
        (["train", "data=file", "data.path=absent.txt"], "absent.txt cannot be read"),
        (["train", "data=file"], "data.path is not given"),
        (["train", "tracking.uri=http://127.0.0.1:9"], "127.0.0.1:9 does not answer"),
        (["train", "tracking.artifacts='foo://bar'"], "tracking.artifacts is foo://bar; it must be a folder or a URL"),
        (["train", "tracking.uri=nonsense"], "tracking.uri is nonsense; it must be a URL"),
        (["sweep", "tracking.uri=http://127.0.0.1:9"], "127.0.0.1:9 does not answer"),
        (["sweep", "study.storage=postgresql+psycopg://u@127.0.0.1:9/db"], "127.0.0.1:9 does not answer"),
        (["sweep", "study.workers=0"], "study.workers is 0; it must be >= 1"),
        (["sweep", "study.confirm.top=-1"], "study.confirm.top is -1; it must be >= 0"),
        (["sweep", "study.confirm.seeds=0"], "study.confirm.seeds is 0; it must be >= 1"),
        (["sweep", "study.confirm=3"], "study.confirm is 3; it must be a group of keys"),
        (["sweep", "space.constraints.parameters=0"], "space.constraints.parameters is 0; it must be an integer >= 1"),
        (["sweep", "space.constraints.parameters=50"], "none of 200 settings drawn has so few weights"),
        (["sweep", "+space.conditions={schedule.lr: 3}"], "space.conditions.schedule.lr is 3; it must be {key: value}"),
        (
            ["sweep", "space.conditions.schedule.decay_at={schedule: step}"],
            "To append to your config use +space.conditions.schedule.decay_at={schedule: step}",
        ),
        (["sweep", "hydra.job.env_set.FOO=1"], "To append to your config use +hydra.job.env_set.FOO=1"),
        (["train", "experiment.foo=1"], "Could not override 'experiment.foo'"),
        (["sweep", "study.n_trials=0"], "study.n_trials is 0; it must be >= 1"),
        (["sweep", "study.n_trials=many"], "study.n_trials is 'many'; it must be an integer"),
        (["sweep", "study.timeout=0"], "study.timeout is 0.0; it must be > 0"),
        (["sweep", "study.timeout=soon"], "study.timeout is 'soon'; it must be a number or null"),
        (["sweep", "pruner.reduction_factor=0"], "pruner cannot be made"),
        (["sweep", "pruner=median", "pruner.n_startup_trials=-1"], "pruner cannot be made"),
        (["sweep", "study.name='a b'"], "study.name is 'a b'; it must be 1 to 100 of a-z"),
        (["sweep", "space=none"], "nothing to search"),
        (["sweep", "model.block_size=range(0,3)"], "model.block_size is 0; it must be >= 1"),
        (
            ["sweep", "model.blok_size=2,3"],
            "model.blok_size is not a key of model=mlp; did you mean block_size? it must be block_size, embedding_size",
        ),
        (["sweep", "schedule=step,cosin"], "schedule is cosin; did you mean cosine? it must be constant, cosine"),
        (["sweep", "sampler=grid"], "sampler=grid needs choice(...) or range(...)"),
        (["sweep", "model.block_size=glob(*)"], "cannot be searched"),
        (["compare"], "there are no records yet"),
        (["compare", "format=xml"], "format is xml; it must be table, csv, json, markdown or html"),
        (["sample"], "there are no records yet"),
        (["sample", "n=0.5"], "n is 0.5; it must be an integer"),
        (["ui", "port=0"], "port is 0; it must be >= 1 and <= 65535"),
        (["lr-find", "lr_find.low=0"], "lr_find.low is 0.0; it must be >= 1e-12"),
        (["lr-find", "lr_find.steps=5"], "lr_find.steps is 5; it must be >= 50"),
        (
            ["lr-find", "lr_find.picture=absent/lr.png"],
            "it must be null, or a .png file in a folder",
        ),
        (["train", "data.path=towns.txt"], "data.path is towns.txt; it must be null, or belong to data=file"),
        (["train", "data.path=~/towns.txt"], "quote a value that has special characters"),
        (["train", "+foo=1"], "foo is not a key; there are task, data, model"),
        (["train", "+tracking.foo=1"], "tracking.foo is not a key of tracking"),
        (["train", "train=5"], "train"),
        (["train", "model=null"], "Config group override must be a string or a list"),
        (["train", "tracking=null"], "tracking is null; it must be a group of keys"),
        (["train", "tracking.uri=http://127.0.0.1:abc"], "it must be a URL"),
        (["train", "tracking.uri=gopher://127.0.0.1/x"], "gopher is not known here"),
        (
            ["train", "data.split_seed=99999999999999999999999"],
            "data.split_seed is 9999999999999999999",
        ),
        (["train", "--bogus"], "unrecognized arguments: --bogus"),
        (["train", "seed=1", "--multirun", "seed=2"], "options stand before or behind all overrides"),
        (["sweep", "study.seed=1,2"], "study.seed cannot be searched; the keys of a run can: data, data.path"),
        (["sweep", "sampler=tpe,random"], "sampler cannot be searched"),
        (["sweep", "data.split=lecture,disjoint"], "data cannot be searched: losses on different words do not compare"),
        (["sweep", "sampler.n_startup_trials=many"], "sampler cannot be made"),
        (["sweep", "sampler._partial_=false"], "sampler._partial_ must be true"),
        (["sweep", "space.warm_start=3"], "space.warm_start is 3; it must be a list"),
        (["sweep", "space.params=3"], "space.params is 3; it must be a group of keys"),
        (["sweep", "hydra.job.chdir=true"], "hydra.job.chdir is true; it must be false"),
        (["sweep", "study.storage=sqlite:///x.db", "tracking.uri=sqlite:///x.db"], "give each a database of its own"),
        (["compare", "-m", "top=1,2"], "makemore compare has no --multirun"),
        (["sample", "n=1000000000000"], "n is 1000000000000; it must be >= 1 and <= 1e+07"),
        (["sample", "temperature=0"], "temperature is 0.0; it must be >= 1e-06"),
        (["ui"], "there are no records yet"),
        (["lr-find", "lr_find.picture=x.foo"], "lr_find.picture is x.foo; it must be null, or a .png file"),
        (["tarin"], "there is no command tarin"),
        (["train", "model=ngram", "model.order=7"], "model.order is 7; it must be >= 0 and <= 6"),
        (["train", "model=ngram", "model.estimator=laplace"], "it must be additive or kneser_ney"),
        (
            ["lr-find", "model=ngram"],
            "model is ngram; it must be mlp or your own: counts have no learning rate to find",
        ),
        (["sweep", "model=ngram"], "order, estimator, smoothing or discount: is space=quick for another model?"),
        (["sweep", "space=none", "model=ngram", "train.steps=10,20"], "train.steps cannot be searched"),
        (
            ["sweep", "space=none", "model=ngram", "model.order=1,2", "space.constraints.parameters=500"],
            "space.constraints.parameters must be null with model=ngram",
        ),
    ],
)
def test_a_wrong_request_gets_one_line_and_leaves_nothing(
    makemore: Makemore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(makemore(*arguments), message)
    assert list(tmp_path.iterdir()) == []


def refused(answer: Answer, message: str) -> None:
    assert answer.code == 2, answer.err
    assert message in answer.err
    assert answer.err.startswith("makemore: ")
    assert answer.err.count("\n") == 1
    assert answer.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "there is no study"),
        (["compare", "study.name=absent"], "study.name is absent"),
        (["compare", 'study.name="a\'b"'], 'study.name is "a\'b"; it must be 1 to 100 of'),
        (["compare", "tracking.experiment=other"], "no such experiment yet"),
        (["sample"], "there is no study"),
        (["sample", "run=absent"], "run is absent"),
        (["sample", "run=12345"], "run is 12345"),
    ],
)
def test_what_is_not_in_the_records_is_named(
    makemore: Makemore, workdir: Path, arguments: list[str], message: str
) -> None:
    assert makemore("train", *TINY).code == 0
    before = files_in(workdir)
    refused(makemore(*arguments), message)
    assert files_in(workdir) == before


def test_the_database_of_something_else_is_left_alone(makemore: Makemore, workdir: Path) -> None:
    with closing(sqlite3.connect(workdir / "app.db")) as database:
        database.execute("create table customers (name text)")
    for key in ("tracking.uri", "study.storage"):
        refused(makemore("sweep", f"{key}=sqlite:///app.db"), "app.db is the database of something else")
    (workdir / "notes.db").write_text("SQLite format 3\0 but not really")
    refused(makemore("train", "tracking.uri=sqlite:///notes.db"), "notes.db is not a SQLite database")
    with closing(sqlite3.connect(workdir / "app.db")) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("customers",)]


def test_a_deleted_experiment_is_named_with_its_cure(makemore: Makemore, workdir: Path) -> None:
    assert makemore("train", *TINY).code == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("makemore")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    sweeps.tracking.store._open.cache_clear()  # as in a new process
    refused(makemore("train", *TINY), "it was deleted: restore it, or give another name")


def test_what_goes_wrong_later_is_one_line_too(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = ("train", *FAKE, "task=fails", "task.at=null")
    answer = makemore(*fails)
    assert (answer.code, answer.err) == (1, "makemore: OSError: the disk is full (MAKEMORE_TRACEBACK=1 shows where)\n")
    monkeypatch.setenv("MAKEMORE_TRACEBACK", "1")
    with pytest.raises(OSError, match="the disk is full"):
        makemore(*fails)


def test_a_diverged_run_fails_with_its_cure(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", *TINY, "optimizer=sgd", "schedule=constant", "schedule.lr=1e30")
    assert answer.code == 1
    assert "try a smaller schedule.lr" in answer.err


def test_a_run_that_counts_is_recorded_as_any_other(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", "model=ngram", "model.order=2")
    assert (answer.code, answer.out.partition(" in ")[0].split(", ")[1]) == (0, "648 probabilities counted")
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    [run] = client.search_runs(["1"])
    assert answer.out.startswith(f"dev loss {run.data.metrics['best_dev_loss']:.4f} nats per character")
    assert run.data.metrics["parameters"] == 648
    assert run.data.metrics["train_loss"] < run.data.metrics["dev_loss"] == run.data.metrics["best_dev_loss"]
    assert "lr" not in run.data.metrics
    assert run.info.run_name == "ngram order=2 estimator=additive seed=0"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.yaml", "dev_losses.safetensors", "loss_curve.png", "samples.txt", "weights.safetensors"}
    words = makemore("sample", f"run={run.info.run_id}", "n=5", "prefix=qx").out.splitlines()
    assert [word[:2] for word in words[:5]] == ["qx"] * 5


def test_an_infinite_loss_fails_with_its_cure(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", "model=ngram", "model.smoothing=0")
    assert answer.code == 1
    assert answer.err.startswith("makemore: the dev loss is infinite: 225 of 8244 dev characters have probability zero")
    assert "set model.smoothing above 0" in answer.err
    assert answer.err.count("\n") == 1


def test_help_is_there_within_half_a_second() -> None:
    """Not a benchmark: ten times the usual time, so that only a heavy import at start-up fails it."""
    start = time.perf_counter()
    command = [sys.executable, "-c", "import sys; from sweeps.cli import run; sys.exit(run(['--help']))"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 0.5
    assert "makemore sweep" in answer.stdout


def test_the_command_line_loads_no_heavy_package_before_it_is_needed() -> None:
    code = "import sweeps.cli, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "hydra", "optuna", "mlflow", "pandas"} & set(loaded)


def test_a_shell_completes_commands_and_their_keys(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", "makemore train model.bl")
    assert makemore("-sc", "query=bash").out.split() == ["model.block_size="]
    monkeypatch.setenv("COMP_LINE", "makemore sample t")
    assert makemore("-sc", "query=bash").out.split() == ["task=", "temperature=", "tracking."]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("model.block_size=2,3 model.bl", "model.block_size="),
        ("'schedule.lr=tag(log, interval(1e-3, 1e-1))' model.bl", "model.block_size="),
        ('model.block_size="choice(2, 3)" optimizer="sgd","adamw" schedule.l', "schedule.lr="),
        ("model=ngram model.order=1,2 model.or", "model.order="),
        ("study.name=a=b, schedule.l", "schedule.lr="),
        ("model=mlp,ngram seed=1 schedule.l", "schedule.lr="),
    ],
)
def test_a_shell_completes_behind_sweep_words(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    monkeypatch.setenv("COMP_LINE", f"makemore sweep {typed}")
    answer = makemore("-sc", "query=bash")
    assert (answer.code, answer.out.split()) == (0, [offered])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_trial_leaves_nothing_running(workdir: Path, number: signal.Signals) -> None:
    arguments = ("sweep", "study.name=a", "study.n_trials=3", "train.steps=1000000")
    process = start(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    deadline = time.monotonic() + 60
    while not client.search_runs(["1"], "tags.kind = 'trial'"):
        assert time.monotonic() < deadline, "no trial began within a minute"
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "makemore: interrupted; the same command goes on"
    assert "Traceback" not in errors
    trials = optuna.load_study(study_name="a", storage=f"sqlite:///{workdir}/mlruns/study.db").trials
    trials = [trial for trial in trials if trial.state.name != "WAITING"]  # to be tried again
    assert {trial.state.name for trial in trials} == {"FAIL"}
    assert {trial.user_attrs["reason"] for trial in trials} == {"interrupted"}
    runs = client.search_runs(["1"], "tags.kind = 'trial'")
    assert len(runs) == len(trials)
    assert {(run.info.status, run.data.tags["trial_state"]) for run in runs} == {("KILLED", "FAIL")}
    [parent] = client.search_runs(["1"], "tags.kind = 'study'")
    assert parent.info.status == "KILLED"


@pytest.mark.slow
def test_an_early_interrupt_is_one_line(workdir: Path) -> None:
    process = start("train", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(1.0)  # while packages are being imported
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "makemore: interrupted\n")


@pytest.mark.slow
def test_two_processes_make_a_new_database_at_once(tmp_path: Path) -> None:
    processes = [start("train", *TINY, cwd=tmp_path, stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert len(client.search_runs(["1"])) == 3
