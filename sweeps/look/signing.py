"""SSH signatures of claims and results, made and checked by OpenSSH's ssh-keygen.

What is signed is a record's hash, which covers the record and all before it. Anybody can check a signature with
`ssh-keygen -Y verify`; see docs/final-test.md.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from sweeps.errors import RequestError
from sweeps.look.record import RESULT, SIGNATURE, Looks, Record
from sweeps.trials.seal import CLAIM

NAMESPACE = "makemore-look"  # what these signatures are for: one made for something else is not valid here
_KEY = "~/.ssh/id_ed25519"
_TOOL = "ssh-keygen"


@dataclass(frozen=True)
class Signer:
    """An SSH key that signs records."""

    key: Path
    fingerprint: str

    def sign(self, looks: Looks, record: Record) -> None:
        """Add a signature of a claim or a result to the table, unless it has one.

        Raises:
            RequestError: the key cannot be used.
        """
        study = record.content["study"]
        if any(_signs(other, record) for other in looks.records(study)):
            return
        command = [_TOOL, "-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(self.key)]
        done = subprocess.run(command, input=record.hash, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RequestError(
                f"looks.key is {self.key}; {_TOOL} cannot sign with it ({_last_line(done.stderr)}): load it into your "
                "SSH agent, name another key, or give looks.sign=false"
            )
        content = {"study": study, "of": record.kind, "hash": record.hash, "signature": done.stdout}
        looks.signature({**content, "key": self.fingerprint})


def find_signer(cfg: DictConfig) -> Signer | None:
    """The key that looks.sign and looks.key ask for; None if nothing is to be signed.

    Raises:
        RequestError: there is no such key, or no ssh-keygen.
    """
    if not isinstance(cfg.looks.sign, bool):
        raise RequestError(f"looks.sign is {cfg.looks.sign}; it must be true or false")
    if not cfg.looks.sign:
        return None
    key = Path(str(cfg.looks.key or _KEY)).expanduser()
    if shutil.which(_TOOL) is None:
        raise RequestError(f"looks.sign is true; there is no {_TOOL} here: install OpenSSH, or give looks.sign=false")
    done = subprocess.run([_TOOL, "-l", "-f", str(key)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RequestError(
            f"looks.key is {key}; it is not an SSH key ({_last_line(done.stderr)}): name another one, or make it with "
            f"{_TOOL} -t ed25519"
        )
    return Signer(key, done.stdout.split()[1])


def check_signatures(records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """What is signed, a sentence for each signature; and a sentence for each that is missing or wrong."""
    told, problems = [], []
    signatures = [record for record in records if record.kind == SIGNATURE]
    if signatures and shutil.which(_TOOL) is None:
        return [f"the signatures were not checked: there is no {_TOOL} here"], []
    for signature in signatures:
        study, kind = signature.content["study"], signature.content["of"]
        signed = [record for record in records if _signs(signature, record)]
        if not signed or not _is_valid(signature):
            problems.append(f"study {study}: the signature of its {kind} is not valid")
        else:
            told.append(f"study {study}: its {kind} is signed with the SSH key {signature.content['key']}")
    promised = {record.content["study"] for record in records if record.content.get("signed_by")}
    completed = {record.content["study"] for record in records if record.kind == RESULT}
    for record in records:
        study = record.content["study"]
        wanted = record.kind in (CLAIM, RESULT) and study in promised & completed
        if wanted and not any(_signs(signature, record) for signature in signatures):
            problems.append(
                f"study {study}: the signature of its {record.kind} is missing; makemore final-test "
                f"study.name={study} looks.sign=true adds it"
            )
    return told, problems


def _signs(signature: Record, record: Record) -> bool:
    content = signature.content
    return (
        signature.kind == SIGNATURE
        and content["study"] == record.content["study"]
        and (content["of"], content["hash"]) == (record.kind, record.hash)
    )


def _is_valid(signature: Record) -> bool:
    """Whether the key that the record names made the signature of the hash that it names."""
    with tempfile.NamedTemporaryFile("w", suffix=".sig") as file:
        file.write(signature.content["signature"])
        file.flush()
        command = [_TOOL, "-Y", "check-novalidate", "-n", NAMESPACE, "-s", file.name]
        done = subprocess.run(command, input=signature.content["hash"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and signature.content["key"] in done.stdout.split()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
