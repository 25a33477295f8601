"""A guest leaves the house as it found it: importing our modules changes nothing in the process that imports them."""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[1]
# What we depend on may change things when it is imported; so it is imported before the first look.
CODE = """
import importlib, json, logging, os, signal, sqlite3, sys, warnings
import alembic, cloudpickle, hydra, matplotlib.figure, mlflow, mlflow.pyfunc, mlflow.artifacts, omegaconf, optuna
import optuna.visualization, optuna.visualization.matplotlib
import optuna_dashboard, pandas, plotly.graph_objects, plotly.offline, pooch, pydantic, safetensors.torch, sqlalchemy
import torch, tqdm
from sqlalchemy import create_engine

def look():
    return {
        "environment": dict(os.environ),
        "warning filters": [str(one) for one in warnings.filters],
        "log levels": {name: logging.getLogger(name).level for name in sorted(logging.root.manager.loggerDict)},
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "threads": torch.get_num_threads(),
        "optuna": optuna.logging.get_verbosity(),
    }

before = look()
for name in sys.argv[1:]:
    importlib.import_module(name)
after = look()
after["log levels"] = {name: level for name, level in after["log levels"].items() if name in before["log levels"]}
changed = {key for key in before if before[key] != after[key]}
engine = create_engine("sqlite:///guest.db")
with engine.connect() as connection:
    mode = connection.exec_driver_sql("pragma journal_mode").scalar()
print(json.dumps({"changed": sorted(changed), "mode": mode}))
"""


def test_importing_every_module_changes_nothing_in_the_process(tmp_path: Path) -> None:
    paths = [path for package in ("makemore", "sweeps") for path in (TOP / package).rglob("*.py")]
    modules = [".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    modules.remove("sweeps.tracking.pyfunc_model")  # MLflow runs it when it loads a model
    assert len(modules) > 60
    done = subprocess.run(
        [sys.executable, "-c", CODE, *modules], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '{"changed": [], "mode": "delete"}'
