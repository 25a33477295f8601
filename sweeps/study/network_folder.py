"""SQLite files in a folder that a network file system shares: one host may write them, several must not.

SQLite's locks and its write-ahead log need the memory of one machine. Over NFS, Lustre or SMB two hosts would damage
the file without noticing.
"""

import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from sweeps.databases import hide_password, sqlite_file
from sweeps.errors import RequestError
from sweeps.trials.at_work import at_work
from sweeps.trials.confirm import confirm_study_name
from sweeps.trials.trials import find_trials

_MOUNTS = Path("/proc/mounts")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|lustre|gpfs|beegfs\w*|ceph|afs|orangefs|pvfs2|ocfs2|gfs2?|glusterfs|"
    r"fuse\.(sshfs|glusterfs|ceph|ceph-fuse|s3fs|gcsfuse|rclone|nfs\w*|smb\w*|juicefs|quobyte)"
)
_HERE = ("basic", "joblib", "submitit_local")  # launchers whose jobs run on this machine
_CURE = (
    "several hosts need servers: study.storage=postgresql+psycopg://... and tracking.uri=http://... "
    "(docs/scaling.md); or run all workers on one host"
)


def check_network_folder(
    databases: Sequence[tuple[str, str]], study: str, launcher: str, mounts: Path = _MOUNTS
) -> None:
    """Refuse several hosts on a SQLite file in a network folder; say in a line what one host should know.

    Args:
        databases: keys and resolved URLs, that of the study first.
        launcher: Hydra's, which may start workers on other hosts.
        mounts: the list of mounted file systems.

    Raises:
        RequestError: workers of other hosts are at the study, or the launcher would start some.
    """
    shared = [(key, url, kind) for key, url in databases if (kind := network_type(sqlite_file(url), mounts))]
    if not shared:
        return
    key, url, kind = shared[0]
    place = f"{key} is {hide_password(url)}, a SQLite file in a network folder ({kind})"
    if launcher not in _HERE:
        raise RequestError(f"{place}; hydra/launcher={launcher} starts workers on several hosts: {_CURE}")
    if hosts := other_hosts(study, databases[0][1]):
        raise RequestError(f"{place}; workers of study {study} are at work on {', '.join(hosts)}: {_CURE}")
    print(f"makemore: {place}: only this host may work on it; {_CURE}", file=sys.stderr)


def other_hosts(study: str, storage: str) -> list[str]:
    """The hosts, other than this one, whose workers are at trials of a study."""
    phases = [find_trials(name, storage) for name in (study, confirm_study_name(study))]
    hosts = {worker.host for worker in at_work(filter(None, phases)) if not worker.is_silent}
    return sorted(hosts - {socket.gethostname()})


def network_type(file: Path | None, mounts: Path = _MOUNTS) -> str | None:
    """The type of the network file system that a file is on; None where it is on none, or nobody knows."""
    if file is None:
        return None
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return None
    path, found = file.resolve(), ("", "")
    for line in lines:
        point, kind = [*line.split(), "", "", ""][1:3]
        point = re.sub(r"\\(\d{3})", lambda digits: chr(int(digits[1], 8)), point)  # a space is \040
        if point and path.is_relative_to(point) and len(point) >= len(found[0]):  # of equal ones, the last is on top
            found = point, kind
    return found[1] if _NETWORK.fullmatch(found[1]) else None
