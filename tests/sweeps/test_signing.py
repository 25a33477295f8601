"""Signatures of looks, and receipts of their hashes: made, checked with plain tools, and missed when they are gone."""

import hashlib
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Makemore
from fake_tasks import FAKE

TASK = ("task=sized", "task.level=1.0,2.0", "study.confirm.top=0", "study.workers=1", "study.name=a")
LOOK = ("final-test", *FAKE[:2], "study.name=a", "final_test.confirm=true")
LOOKS = ("looks", *FAKE[:2])
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen here")


@pytest.fixture
def study(makemore: Makemore, workdir: Path) -> Path:
    """The current folder, with a study that has a winner."""
    assert makemore("sweep", *FAKE, *TASK).code == 0
    return workdir


def make_key(path: Path, passphrase: str = "") -> Path:
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "somebody", "-f", str(path)]
    subprocess.run(line, check=True)
    return path


def rows(folder: Path) -> list[tuple[int, str, str, str]]:
    with closing(sqlite3.connect(folder / "mlruns/study.db")) as database:
        return database.execute("select number, event, record, hash from looks order by number").fetchall()


def change(folder: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(folder / "mlruns/study.db")) as database, database:
        database.execute(statement, values)


@needs_ssh
def test_claim_and_result_are_signed_and_the_plain_tool_agrees(makemore: Makemore, study: Path, tmp_path: Path) -> None:
    key = make_key(study / "key")
    signed = ("looks.sign=true", f"looks.key={key}")
    answer = makemore(*LOOK, *signed)
    assert answer.code == 0, answer.err
    assert "Signed with the SSH key SHA256:" in answer.out
    found = {event: (json.loads(record), own_hash) for _, event, record, own_hash in rows(study)}
    assert list(found) == ["claim a", "signature a claim", "result a", "signature a result"]
    (study / "signers").write_text(f"me {key.with_suffix('.pub').read_text()}")
    verify = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "me", "-n", "makemore-look", "-s", "look.sig"]
    for kind in ("claim", "result"):
        (study / "look.sig").write_text(found[f"signature a {kind}"][0]["signature"])
        done = subprocess.run(verify, input=found[f"{kind} a"][1], cwd=study, text=True, check=False)
        assert done.returncode == 0
    looks = makemore(*LOOKS)
    assert looks.code == 0
    assert " ".join(looks.out.split()).count("is signed with the SSH key SHA256:") == 2


@needs_ssh
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("update looks set record = replace(record, 'SHA256:', 'SHA256:x') where number = 4", "result is not valid"),
        ("delete from looks where number = 4", "the signature of its result is missing"),
    ],
)
def test_a_signature_that_is_gone_or_another_is_found(
    makemore: Makemore, study: Path, statement: str, message: str
) -> None:
    signed = ("looks.sign=true", f"looks.key={make_key(study / 'key')}")
    assert makemore(*LOOK, *signed).code == 0
    change(study, statement)
    looks = makemore(*LOOKS)
    assert looks.code == 1
    assert message in " ".join((looks.out + looks.err).split())
    if "missing" in message:
        assert makemore(*LOOK, *signed).code == 3  # it adds what is missing
        assert makemore(*LOOKS).code == 0


@needs_ssh
def test_a_key_that_cannot_be_used_is_refused_and_spends_nothing(makemore: Makemore, study: Path) -> None:
    for words, message in (
        (("looks.key=nowhere",), "looks.key is nowhere; it is not an SSH key ("),
        ((f"looks.key={study / 'mlruns/study.db'}",), "it is not an SSH key ("),
    ):
        answer = makemore(*LOOK, "looks.sign=true", *words)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert message in answer.err
    assert makemore(*LOOK, "looks.sign=maybe").code == 2
    with closing(sqlite3.connect(study / "mlruns/study.db")) as database:
        assert not database.execute("select 1 from sqlite_master where name = 'looks'").fetchall()


@needs_ssh
def test_a_key_that_does_not_sign_leaves_a_claim_that_the_same_command_completes(
    makemore: Makemore, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    key = make_key(study / "key", passphrase="a secret of some length")
    answer = makemore(*LOOK, "looks.sign=true", f"looks.key={key}")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "ssh-keygen cannot sign with it" in answer.err
    assert [event for _, event, _, _ in rows(study)] == ["claim a"]
    answer = makemore(*LOOK, "looks.sign=true", f"looks.key={make_key(study / 'other')}")
    assert answer.code == 0, answer.err
    assert makemore(*LOOKS).code == 0


def test_a_receipt_shows_that_all_hashes_were_made_anew(makemore: Makemore, study: Path) -> None:
    assert makemore(*LOOK).code == 0
    written = makemore(*LOOKS, "receipt=looks.txt")
    assert (written.code, "receipt written: looks.txt" in written.out) == (0, True)
    text = (study / "looks.txt").read_text()
    assert [line.split()[1] for line in text.splitlines()[1:]] == [own_hash for *_, own_hash in rows(study)]
    assert "test_loss" not in text
    assert makemore(*LOOKS, "receipt=looks.txt").code == 0
    before = "0" * 64
    for number, event, record, _ in rows(study):
        altered = record.replace('"reason": null', '"reason": "none"')
        before = hashlib.sha256(f"{before}\n{event}\n{altered}".encode()).hexdigest()
        change(study, "update looks set record = ?, hash = ? where number = ?", altered, before, number)
    answer = makemore(*LOOKS, "receipt=looks.txt")
    assert answer.code == 1
    assert "looks.txt: the record has no row 1 of this receipt" in " ".join((answer.out + answer.err).split())
    assert (study / "looks.txt").read_text() == text


def test_another_file_is_not_taken_for_a_receipt_and_not_written_over(makemore: Makemore, study: Path) -> None:
    assert makemore(*LOOK).code == 0
    (study / "notes.txt").write_text("mine")
    answer = makemore(*LOOKS, "receipt=notes.txt")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "receipt is notes.txt; it is another file" in answer.err
    assert (study / "notes.txt").read_text() == "mine"
    assert makemore(*LOOKS, "receipt=nowhere/looks.txt").code == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_a_time_stamping_service_can_stamp_a_receipt_and_a_third_party_can_check_it(
    makemore: Makemore, study: Path
) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=study, check=True, capture_output=True)

    assert makemore(*LOOK).code == 0
    assert makemore(*LOOKS, "receipt=looks.txt").code == 0
    # A service of the test's own; users take a public one.
    settings = "[tsa]\ndefault_tsa = own\n[own]\nserial = serial\ndigests = sha256\nsigner_digest = sha256\n"
    (study / "service.cnf").write_text(f"{settings}default_policy = 1.2.3.4\nordering = yes\nless_name = no\n")
    (study / "serial").write_text("01\n")
    extension = ("-addext", "extendedKeyUsage=critical,timeStamping")
    certificate = ("-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "service.pem", "-subj", "/CN=service")
    openssl("req", "-x509", *certificate, *extension)
    openssl("ts", "-query", "-data", "looks.txt", "-sha256", "-cert", "-out", "looks.tsq")
    service = ("-config", "service.cnf", "-section", "own", "-signer", "service.pem", "-inkey", "key.pem")
    openssl("ts", "-reply", "-queryfile", "looks.tsq", *service, "-out", "looks.tsr")
    openssl("ts", "-verify", "-data", "looks.txt", "-in", "looks.tsr", "-CAfile", "service.pem")
    (study / "looks.txt").write_text("another content")
    with pytest.raises(subprocess.CalledProcessError):
        openssl("ts", "-verify", "-data", "looks.txt", "-in", "looks.tsr", "-CAfile", "service.pem")
