"""Make 0.1.0.tar.xz: the records that version 0.1.0 wrote, which later versions must read.

    git worktree add /tmp/old a7a353d
    python tests/old_store/make.py /tmp/old
    git worktree remove /tmp/old

It holds a study of the MLP with a confirmed winner (old), a single run, and a study of n-grams (counts); without
pictures and Hydra's folders, which no command reads. PLACE stands where the folder's absolute path stood.
"""

import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

PLACE = "/old-store"
ARCHIVE = Path(__file__).with_name("0.1.0.tar.xz")
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
STUDY = (
    *("sweep", "study.name=old", "study.n_trials=4", "study.confirm.top=1", "study.confirm.seeds=1"),
    *("study.workers=1", "model.hidden_neurons=8", "train.steps=50", "train.evaluations=2"),
)
RUN = ("train", "model.hidden_neurons=8", "train.steps=50", "train.evaluations=2")
COUNTS = (
    *("sweep", "study.name=counts", "space=ngram", "model.order=1,2", "model.smoothing=0.1,1.0"),
    "study.workers=1",
)
DROPPED = ("*.png", "pictures.html", "*.lock", "*-wal", "*-shm")


def replace_place(mlruns: Path, old: str, new: str) -> None:
    """Put another folder's path in place of the one that the artifacts of an MLflow database have."""
    with closing(sqlite3.connect(mlruns / "mlflow.db")) as database, database:
        for table, column in LOCATIONS:
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", (old, new))
    for path in mlruns.rglob("MLmodel"):
        path.write_text(path.read_text().replace(old, new))


def main() -> None:
    checkout = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (STUDY, RUN, COUNTS):
            command = [sys.executable, "-c", "from sweeps.cli import main; main()", *arguments]
            subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(checkout)}, check=True)
        mlruns = Path(folder, "mlruns")
        for pattern in DROPPED:
            for path in mlruns.rglob(pattern):
                path.unlink()
        replace_place(mlruns, folder, PLACE)
        with tarfile.open(ARCHIVE, "w:xz") as archive:
            for name in ("mlflow.db", "study.db", "artifacts"):
                archive.add(mlruns / name, f"mlruns/{name}")
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
