import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest
from conftest import Makemore

import sweeps.task.language_model.sources
from sweeps.errors import RequestError
from sweeps.task.language_model.sources import fetch_names


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served on loopback, from which names.txt is fetched into an empty cache."""
    folder = tmp_path / "web"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.delenv("MAKEMORE_DATA_DIR", raising=False)
    monkeypatch.setattr(
        sweeps.task.language_model.sources, "NAMES_URL", f"http://127.0.0.1:{server.server_port}/names.txt"
    )
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_names_are_fetched_once_checked_and_kept(web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (web / "names.txt").write_bytes(b"emma\nolivia\n")
    digest = hashlib.sha256(b"emma\nolivia\n").hexdigest()
    monkeypatch.setattr(sweeps.task.language_model.sources, "NAMES_SHA256", digest)
    path = fetch_names()
    assert path.read_bytes() == b"emma\nolivia\n"
    (web / "names.txt").unlink()
    assert fetch_names() == path


def test_another_file_under_that_address_is_refused(web: Path) -> None:
    (web / "names.txt").write_bytes(b"something else\n")
    with pytest.raises(RequestError, match="no longer has SHA-256 0a30b5557f192f32"):
        fetch_names()


def test_without_a_network_the_cure_is_named(web: Path) -> None:
    with pytest.raises(RequestError, match=r"could not be fetched from .*; set MAKEMORE_DATA_DIR"):
        fetch_names()


def test_a_folder_replaces_the_network(names_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps.task.language_model.sources, "NAMES_URL", "http://127.0.0.1:9/names.txt")
    assert fetch_names() == names_file


def test_a_folder_without_the_right_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEMORE_DATA_DIR", str(tmp_path))
    with pytest.raises(RequestError, match=r"it must be a folder with names\.txt in it"):
        fetch_names()
    (tmp_path / "names.txt").write_bytes(b"something else\n")
    with pytest.raises(RequestError, match=r"has SHA-256 .*; the lectures' names.txt has 0a30b5557f192f32"):
        fetch_names()


def test_the_lectures_model_comes_below_2_16_in_4000_steps(makemore: Makemore, workdir: Path, names_file: Path) -> None:
    answer = makemore(
        *("train", "data=names", "data.split=lecture", "model.block_size=3", "model.embedding_size=10"),
        *("model.hidden_neurons=200", "train.steps=4000"),
    )
    assert answer.code == 0
    assert float(answer.out.split()[2]) < 2.16


def test_anyones_list_trains(makemore: Makemore, workdir: Path) -> None:
    towns = [f"{start}{middle}{end}" for start in "ÅBÇÐ" for middle in ("el", " Sankt ", "-øre-") for end in "aeiou"]
    (workdir / "towns.txt").write_text("\ufeff" + "\r\n".join(towns), encoding="utf-8")
    answer = makemore("train", "data=file", "data.path=towns.txt", "train.steps=20", "train.evaluations=1")
    assert answer.code == 0, answer.err
