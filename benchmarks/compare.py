"""How long `makemore compare` takes on a study of 5,000 trials, in seconds of the whole process.

    python benchmarks/compare.py [--rounds N] [--trials N] [--json PATH]

A study of a single trial is run, and the trial's run in MLflow is copied with all its params, metrics, curves, tags
and dataset inputs until the study has the wanted number of trials. Each copy has its own id, number, learning rate
and dev loss. Each command runs in a new process, as a user starts it; the table shows the median of N rounds.
"""

import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path

from common import finish, parse_arguments

from sweeps.cli import run

COMMANDS = ("top=10", "format=csv", "by=setting top=10", "format=html top=100")
LIMIT = 10.0  # seconds
TABLES = {
    "runs": "run_uuid",
    "params": "run_uuid",
    "metrics": "run_uuid",
    "latest_metrics": "run_uuid",
    "tags": "run_uuid",
    "inputs": "destination_id",
}


def fill(trials: int) -> None:
    """Make a study with this number of trials, of which one is run and the others are copies."""
    study = ("study.name=large", "study.workers=1", "study.confirm.top=0", "study.n_trials=1")
    assert run(["sweep", *study, "train.steps=500", "train.evaluations=10"]) == 0
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database, database:
        (model,) = database.execute("select run_uuid from tags where key = 'kind' and value = 'trial'").fetchone()
        copies = [
            (uuid.uuid4().hex, number, random.uniform(1e-3, 1e-1), random.uniform(2.3, 2.6))
            for number in range(1, trials)
        ]
        database.execute("create temp table copies (id text primary key, number text, lr text, loss real)")
        database.executemany("insert into copies values (?, ?, ?, ?)", copies)
        for table, owner in TABLES.items():
            columns = [column for _, column, *_ in database.execute(f"pragma table_info({table})")]
            read = ", ".join("copies.id" if column == owner else column for column in columns)
            database.execute(f"insert into {table} select {read} from {table}, copies where {owner} = ?", [model])
        for table, key, column in (
            ("tags", "trial_number", "number"),
            ("tags", "group_hash", "number"),
            ("params", "schedule.lr", "lr"),
            ("latest_metrics", "best_dev_loss", "loss"),
        ):
            database.execute(
                f"update {table} set value = {column} from copies where run_uuid = copies.id and key = ?", [key]
            )


def measure(command: str) -> float:
    """Seconds of a whole process that runs the command."""
    start = time.perf_counter()
    call = [sys.executable, "-c", "from sweeps.cli import main; main()", "compare", *command.split()]
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = parse_arguments(__doc__.splitlines()[0], rounds=3)
    parser.add_argument("--trials", type=int, default=5000)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        fill(arguments.trials)
        for command in COMMANDS:
            seconds = statistics.median(measure(command) for _ in range(arguments.rounds))
            rows.append({"compare": command, "trials": arguments.trials, "seconds": seconds, "under": LIMIT})
        os.chdir(Path(__file__).parent)
    finish(rows, "given_names", arguments.json)


if __name__ == "__main__":
    main()
