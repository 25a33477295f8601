"""SQLite files on network file systems: one host may work on them, several are refused."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import own_environment, start
from fake_tasks import FAKE

from sweeps.errors import RequestError
from sweeps.study.network_folder import check_network_folder, network_type, other_hosts
from sweeps.trials.trials import find_trials

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local xfs rw 0 0
10.0.0.1@tcp:/scratch /scratch lustre rw 0 0
//files/team /mnt/our\\040team cifs rw 0 0
me@host:/data /mnt/ssh fuse.sshfs rw 0 0
tmpfs /scratch/fast tmpfs rw 0 0
/dev/fuse /mnt/image fuse.appimage ro 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    (tmp_path / "mounts").write_text(MOUNTS)
    return tmp_path / "mounts"


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/var/x/mlruns/study.db", None),
        ("/home/me/mlruns/study.db", "nfs4"),
        ("/home/local/study.db", None),
        ("/homes/study.db", None),
        ("/scratch/study.db", "lustre"),
        ("/scratch/fast/study.db", None),
        ("/mnt/our team/study.db", "cifs"),
        ("/mnt/ssh/study.db", "fuse.sshfs"),
        ("/mnt/image/study.db", None),
    ],
)
def test_the_file_system_of_a_file_is_that_of_the_nearest_mount(mounts: Path, file: str, kind: str | None) -> None:
    assert network_type(Path(file), mounts) == kind


def test_where_there_is_no_list_of_mounts_nobody_knows(tmp_path: Path) -> None:
    assert network_type(tmp_path / "study.db", tmp_path / "no mounts") is None
    assert network_type(None) is None


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="a host of another name needs root")
def test_a_worker_on_another_host_is_seen(tmp_path: Path) -> None:
    script = 'hostname another-host && exec "$@"'
    arguments = ("sweep", *FAKE, "study.name=a", "task=waits", "task.then_diverges=false", "task.level=1.0,2.0")
    process = subprocess.Popen(
        ["unshare", "--uts", "sh", "-c", script, "sh", sys.executable, "-m", "sweeps", *arguments, "study.workers=1"],
        cwd=tmp_path,
        env=own_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    storage = f"sqlite:///{tmp_path}/mlruns/study.db"
    deadline = time.monotonic() + 60
    try:
        while not (tmp_path / "waiting").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert find_trials("a", storage) is not None
        assert other_hosts("a", storage) == ["another-host"]
        (tmp_path / "mounts").write_text(f"server:/x {tmp_path} nfs rw 0 0\n")
        with pytest.raises(RequestError, match="workers of study a are at work on another-host: several hosts need"):
            check_network_folder([("study.storage", storage)], "a", "basic", tmp_path / "mounts")
    finally:
        process.kill()
        process.wait()


def test_on_a_local_disk_nothing_is_said(tmp_path: Path) -> None:
    process = start("sweep", *FAKE, "study.name=a", "task=instant", "task.level=1.0,2.0", cwd=tmp_path,
                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "network" not in errors


def test_a_network_folder_is_said_to_one_host_and_refused_to_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    places = [("study.storage", f"sqlite:///{tmp_path}/study.db"), ("tracking.uri", "http://127.0.0.1:5000")]
    with pytest.raises(RequestError, match=r"network folder \(nfs4\); hydra/launcher=submitit_slurm starts workers"):
        check_network_folder(places, "a", "submitit_slurm", tmp_path / "mounts")
    check_network_folder(places, "a", "basic", tmp_path / "mounts")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "only this host may work on it; several hosts need servers: study.storage=postgresql" in said
    check_network_folder(places[1:], "a", "submitit_slurm", tmp_path / "mounts")
    assert capsys.readouterr().err == ""
