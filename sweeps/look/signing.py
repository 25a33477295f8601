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

    def check(self) -> None:
        """Raise RequestError unless the key makes a valid signature now: before anything depends on it."""
        if not _is_valid(self._sign("a trial signature"), "a trial signature", self.fingerprint):
            raise RequestError(
                f"looks.key is {self.key}; its signatures are not valid: is its .pub file another key's?"
            )

    def sign(self, looks: Looks, record: Record) -> None:
        """Add a signature of a claim or a result to the table, unless it has one.

        Raises:
            RequestError: the key cannot be used.
        """
        study = record.content["study"]
        if not any(_signs(other, record) for other in looks.records(study)):
            content = {"study": study, "of": record.kind, "hash": record.hash, "key": self.fingerprint}
            looks.signature({**content, "signature": self._sign(record.hash)})

    def _sign(self, text: str) -> str:
        command = [_TOOL, "-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(self.key)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RequestError(
                f"looks.key is {self.key}; {_TOOL} cannot sign with it ({_last_line(done.stderr)}): load it into your "
                "SSH agent, name another key, or give looks.sign=false"
            )
        return done.stdout


def find_signer(cfg: DictConfig) -> Signer | None:
    """The key that looks.sign and looks.key ask for; None if nothing is to be signed.

    Raises:
        RequestError: there is no such key, or no ssh-keygen.
    """
    if not isinstance(cfg.looks.sign, bool):
        raise RequestError(f"looks.sign is {cfg.looks.sign}; it must be true or false")
    if not cfg.looks.sign:
        return None
    try:
        key = Path(str(cfg.looks.key or _KEY)).expanduser()
    except RuntimeError:  # there is no such user
        raise RequestError(f"looks.key is {cfg.looks.key}; it must be the file of an SSH key") from None
    if shutil.which(_TOOL) is None:
        raise RequestError(f"looks.sign is true; there is no {_TOOL} here: install OpenSSH, or give looks.sign=false")
    done = subprocess.run([_TOOL, "-l", "-f", str(key)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RequestError(
            f"looks.key is {key}; it is not an SSH key ({_last_line(done.stderr)}): name another one, or make it with "
            f"{_TOOL} -t ed25519"
        )
    return Signer(key, done.stdout.split()[1])


def check_promise(claim: Record, signer: Signer | None) -> None:
    """Raise RequestError if a claim promises a signature, and `signer` is not its key."""
    promised = claim.content.get("signed_by")
    if promised and (signer is None or signer.fingerprint != promised):
        raise RequestError(
            f"looks.sign is {'false' if signer is None else 'true'}; the claim of study {claim.content['study']} is to "
            f"be signed with the SSH key {promised}: give looks.sign=true and that key as looks.key"
        )


def signature_problems(records: Sequence[Record]) -> list[str]:
    """A sentence for each signature that is missing or wrong, or that was made too late."""
    problems = []
    promised = {record.content["study"]: record.content.get("signed_by") for record in records if record.kind == CLAIM}
    completed = {record.content["study"]: record for record in records if record.kind == RESULT}
    for record in records:
        study = record.content.get("study")
        if record.kind not in (CLAIM, RESULT) or study not in completed or not promised.get(study):
            continue
        found = next((other for other in records if _signs(other, record)), None)
        if found is None:
            problems.append(
                f"study {study}: the signature of its {record.kind} is missing; makemore final-test "
                f"study.name={study} looks.sign=true adds that of a result"
            )
        elif found.content["key"] != promised[study]:
            problems.append(f"study {study}: its {record.kind} is signed with another key than its claim names")
        elif record.kind == CLAIM and found.number > completed[study].number:
            problems.append(f"study {study}: its claim was signed after its result")
    if shutil.which(_TOOL) is not None:
        problems += [
            f"study {content['study']}: the signature of its {content['of']} is not valid"
            for content in (record.content for record in records if record.kind == SIGNATURE)
            if not _is_valid(str(content.get("signature")), str(content["hash"]), str(content["key"]))
        ]
    return problems


def signatures_in_words(records: Sequence[Record]) -> list[str]:
    """A sentence for each signature, or one that says why they were not checked."""
    signatures = [record.content for record in records if record.kind == SIGNATURE]
    if signatures and shutil.which(_TOOL) is None:
        return [f"the signatures were not checked, because there is no {_TOOL} here: install OpenSSH"]
    return [f"study {one['study']}: its {one['of']} is signed with the SSH key {one['key']}" for one in signatures]


def _signs(signature: Record, record: Record) -> bool:
    content = signature.content
    named = [content.get(key) for key in ("study", "of", "hash")]
    return signature.kind == SIGNATURE and named == [record.content.get("study"), record.kind, record.hash]


def _is_valid(signature: str, text: str, fingerprint: str) -> bool:
    """Whether the key of a fingerprint made a signature of a text."""
    with tempfile.NamedTemporaryFile("w", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        command = [_TOOL, "-Y", "check-novalidate", "-n", NAMESPACE, "-s", file.name]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode == 0 and fingerprint in done.stdout.split()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
