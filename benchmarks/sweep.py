"""Whole sweeps compared with other tools that do the same work, each in an environment of its own.

    MAKEMORE_DATA_DIR=... python benchmarks/sweep.py [--rounds N] [--only WORDS] [--environments FOLDER] [--json PATH]

The words are names.txt in the folder $MAKEMORE_DATA_DIR, or else the shipped list, with the lecture's split. Times are
seconds of whole processes in empty folders; the two sides take turns. In the first rows each trial trains the
lecture's model (block size 3, embedding 10, hidden 200, batch 32, SGD, sampled targets) for 5,000 steps with ten
evaluations of the dev split and is recorded in MLflow. The learning rate and the point of its decay are searched, and
nothing is pruned. The other tools run the lecture's loop in plain torch (peers/). No other tool confirms its winner,
so confirmation is off.

Two rows compare the best dev loss after 60 s: Ray Tune with ASHA searches the sizes of the lecture's recipe, and we
search `space=mlp`, as shipped and without the settings that it tries first. The last row compares two workers with
one, for 32 trials of 40,000 steps.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import finish, parse_arguments

from makemore.data import GIVEN_NAMES

PEERS = Path(__file__).parent / "peers"
TORCH = "torch>=2.13,<2.14"
REQUIREMENTS = {
    "hydra-optuna-sweeper": [TORCH, "hydra-core==1.3.8", "hydra-optuna-sweeper==1.3.0", "mlflow>=3.17,<4"],
    "optuna": [TORCH, "optuna>=5.0,<6", "mlflow>=3.17,<4"],
    "ray": [TORCH, "ray[tune]==2.60.0", "optuna>=5.0,<6", "mlflow>=3.17,<4"],
}
OURS = Path(sys.executable).with_name("makemore")
MINUTE = 60


def make_environment(folder: Path, name: str) -> Path:
    """The Python of an environment in which a peer is installed; the environment is made at its first use."""
    python = folder / name / "bin" / "python"
    done = folder / name / "installed"
    if not done.exists():
        print(f"making the environment of {name} in {folder / name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder / name)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]], check=True)
        done.touch()
    return python


def words() -> Path:
    folder = os.environ.get("MAKEMORE_DATA_DIR")
    return Path(folder).absolute() / "names.txt" if folder else GIVEN_NAMES


def run(command: list[Any], read_best: Callable[[str], float]) -> tuple[float, float]:
    """Seconds of a whole process in an empty folder, and its best dev loss in nats per character."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "PEER_WORDS": str(words())}
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        start = time.perf_counter()
        done = subprocess.run(
            list(map(str, command)), cwd=folder, env=os.environ | quiet, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return seconds, read_best(folder if read_best is best_of_mlflow else done.stdout)


def best_of_ours(stdout: str) -> float:
    """The dev loss in the first row of the summary's table."""
    row = next(line for line in stdout.splitlines()[4:] if line.split() and line.split()[0].isdigit())
    return float(row.split()[1])


def best_of_peer(stdout: str) -> float:
    return float(json.loads(stdout.splitlines()[-1])["best"])


def best_of_mlflow(folder: str) -> float:
    import sqlite3

    with sqlite3.connect(Path(folder) / "mlflow.db") as database:
        [(best,)] = database.execute("select min(value) from latest_metrics where key = 'best_dev_loss'").fetchall()
    return float(best)


def ours(n_trials: int, *more: str, steps: int = 5000) -> tuple[list[Any], Callable[[str], float]]:
    data = "names" if "MAKEMORE_DATA_DIR" in os.environ else "given_names"
    recipe = ["optimizer=sgd", "schedule=step", "train.targets=sampled", "train.batch_size=32", f"train.steps={steps}"]
    search = ["space=none", "schedule.lr=tag(log, interval(0.01, 0.5))", "schedule.decay_at=interval(0.3, 0.9)"]
    rest = [f"data={data}", "data.split=lecture", "pruner=none", "study.confirm.top=0", f"study.n_trials={n_trials}"]
    return [OURS, "sweep", *search, *recipe, *rest, *more], best_of_ours


def a_minute_of_ours(*more: str) -> tuple[list[Any], Callable[[str], float]]:
    data = "names" if "MAKEMORE_DATA_DIR" in os.environ else "given_names"
    words = ["space=mlp", f"data={data}", "data.split=lecture", "study.confirm.top=0", "study.n_trials=10000"]
    return [OURS, "sweep", *words, f"study.timeout={MINUTE}", *more], best_of_ours


def peer(folder: Path, name: str, n_trials: int, *more: str) -> tuple[list[Any], Callable[[str], float]]:
    python = make_environment(folder, name)
    if name == "hydra-optuna-sweeper":
        arguments = ["--multirun", f"hydra.sweeper.n_trials={n_trials}", "steps=5000"]
        return [python, PEERS / "hydra_sweeper.py", *arguments], best_of_mlflow
    script = "optuna_mlflow.py" if name == "optuna" else "ray_tune.py"
    return [python, PEERS / script, n_trials, *(more or ["5000"])], best_of_peer


def compare(
    what: str, mine: tuple[list[Any], Any], theirs: tuple[list[Any], Any], rounds: int, least: str
) -> dict[str, Any]:
    """A row of the table: median seconds and best losses of the two sides, which take turns, and the median ratio."""
    pairs = [(run(*mine), run(*theirs)) for _ in range(rounds)]
    print(f"{what}: {pairs}", file=sys.stderr)
    return {
        "what": what,
        "ours s": statistics.median(mine[0] for mine, _ in pairs),
        "theirs s": statistics.median(theirs[0] for _, theirs in pairs),
        "theirs / ours": statistics.median(theirs[0] / mine[0] for mine, theirs in pairs),
        "ours dev": statistics.median(mine[1] for mine, _ in pairs),
        "theirs dev": statistics.median(theirs[1] for _, theirs in pairs),
        "at least": least,
    }


def main() -> None:
    parser = parse_arguments(__doc__.splitlines()[0], rounds=3)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--environments", type=Path, default=cache / "makemore-sweeps" / "peers", help="for the peers")
    parser.add_argument("--only", default="", help="rows whose name has these words")
    arguments = parser.parse_args()
    folder = arguments.environments

    rows: list[tuple[str, Callable[[], tuple[Any, Any]], str]] = [
        ("Hydra's Optuna sweeper, 16 trials", lambda: (ours(16), peer(folder, "hydra-optuna-sweeper", 16)), "3.5"),
        ("Hydra's Optuna sweeper, 64 trials", lambda: (ours(64), peer(folder, "hydra-optuna-sweeper", 64)), "5"),
        ("Optuna with MLflow, 16 trials", lambda: (ours(16), peer(folder, "optuna", 16)), ""),
        ("Ray Tune, 16 trials", lambda: (ours(16), peer(folder, "ray", 16)), ""),
        (
            "Ray Tune with ASHA, 16 trials; ours with ASHA",
            lambda: (ours(16, "pruner=asha"), peer(folder, "ray", 16, "5000", "asha")),
            "",
        ),
        (
            "a minute: Ray Tune with ASHA; space=mlp",
            lambda: (a_minute_of_ours(), peer(folder, "ray", 0, "20000", "asha", f"seconds={MINUTE}")),
            "dev lower by 0.05",
        ),
        (
            "a minute: the same; space=mlp without its warm start",
            lambda: (
                a_minute_of_ours("space.warm_start=[]"),
                peer(folder, "ray", 0, "20000", "asha", f"seconds={MINUTE}"),
            ),
            "",
        ),
        (
            "one worker; two workers",
            lambda: (ours(32, "study.workers=2", steps=40000), ours(32, "study.workers=1", steps=40000)),
            "1.8",
        ),
    ]
    found = [compare(what, *make(), arguments.rounds, least) for what, make, least in rows if arguments.only in what]
    finish(found, words().name, arguments.json)


if __name__ == "__main__":
    main()
