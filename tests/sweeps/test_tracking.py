"""The records in MLflow, and what importing their modules does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Makemore

import sweeps.tracking
import sweeps.tracking.store
from sweeps.tracking.quiet import quiet_mlflow

MODULES = sorted(f"sweeps.tracking.{path.stem}" for path in Path(sweeps.tracking.__file__).parent.glob("[a-z]*.py"))


def in_python(code: str, **environment: str) -> str:
    """What a process of its own prints, in which no variable of MLflow's is set but those given."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    process = subprocess.run(
        [sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True, check=True
    )
    return process.stdout


def test_importing_the_records_changes_no_variable_and_no_log_level() -> None:
    imports = ", ".join(name for name in MODULES if not name.endswith("pyfunc_model"))
    code = (
        "import logging, os, mlflow.artifacts, mlflow.tracking, optuna, sqlalchemy\n"
        "def state():\n"
        "    names = ('', 'alembic', 'mlflow', 'sqlalchemy', 'optuna')\n"
        "    return dict(os.environ), [logging.getLogger(name).level for name in names]\n"
        f"before = state(); import {imports}\n"
        "print(state() == before)"
    )
    assert in_python(code, MLFLOW_DISABLE_TELEMETRY="true").strip() == "True"


def test_mlflow_is_quiet_if_it_is_told_before_it_is_imported() -> None:
    code = (
        "import sys; from sweeps.tracking.quiet import quiet_mlflow; assert 'mlflow' not in sys.modules\n"
        "quiet_mlflow(); import logging, mlflow.telemetry\n"
        "print(mlflow.telemetry.get_telemetry_client(), logging.getLogger('mlflow').level, logging.WARNING)"
    )
    assert in_python(code).split() == ["None", "30", "30"]


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "DEBUG")
    monkeypatch.delenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
    quiet_mlflow()
    assert os.environ["MLFLOW_LOGGING_LEVEL"] == "DEBUG"
    assert os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] == "false"


def test_a_variable_set_after_the_import_reaches_the_first_connection(workdir: Path) -> None:
    code = (
        "import os, sweeps.tracking.store as store; from sqlalchemy import Engine, event; pools = set()\n"
        "os.environ['MLFLOW_SQLALCHEMYSTORE_POOLCLASS'] = 'NullPool'\n"
        "event.listen(Engine, 'engine_connect', lambda connection: pools.add(type(connection.engine.pool).__name__))\n"
        "store.MlflowClient('sqlite:///mlruns/mlflow.db').search_experiments()\n"
        "print(*pools)"
    )
    assert in_python(code, MLFLOW_DISABLE_TELEMETRY="true").split() == ["NullPool"]


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("MLFLOW_TRACKING_URI", "tracking.uri"),
        ("MLFLOW_REGISTRY_URI", "tracking.uri"),
        ("MLFLOW_EXPERIMENT_NAME", "tracking.experiment"),
    ],
)
@pytest.mark.extras
def test_a_variable_of_mlflow_is_not_followed_and_that_is_said(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch, variable: str, key: str
) -> None:
    sweeps.tracking.store._say.cache_clear()  # as in a new process
    sweeps.tracking.store._open.cache_clear()
    elsewhere = f"sqlite:///{workdir}/elsewhere.db" if key == "tracking.uri" else "elsewhere"
    monkeypatch.setenv(variable, elsewhere)
    study = ("sweep", "study.name=a", "study.n_trials=1", "study.workers=1", "study.confirm.top=0", "train.steps=20")
    answer = makemore(*study, "study.pictures=false")
    assert answer.code == 0, answer.err
    assert f"makemore: {variable} is set, but {key} decides, which is " in answer.err
    assert f"to follow the variable, give {key}='${{oc.env:{variable}}}'" in answer.err
    assert not (workdir / "elsewhere.db").exists()
    monkeypatch.delenv(variable)
    client = sweeps.tracking.store.MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    assert len(client.search_model_versions("name = 'makemore-given_names'")) == 1
    followed = makemore("train", "train.steps=20", f"{key}='{elsewhere}'")
    assert followed.code == 0, followed.err
    monkeypatch.setenv(variable, elsewhere)
    sweeps.tracking.store._say.cache_clear()
    followed = makemore("train", "train.steps=20", f"{key}='${{oc.env:{variable}}}'")
    assert (followed.code, followed.err) == (0, "")
