"""The sources of words: the shipped list, the lectures' list, or a user's file."""

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK

from makemore.data import GIVEN_NAMES, Alphabet, DataError, read_words
from makemore.limits import LimitError
from sweeps.errors import RequestError
from sweeps.task.language_model.remarks import list_remarks
from sweeps.task.split import SplitConfig

NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
NAMES_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"


@dataclass(frozen=True)
class DataConfig:
    """The checked keys of `data`: the list of words, and how it is split."""

    name: str
    path: str | None
    split: str
    split_seed: int
    boundary: str

    def __post_init__(self) -> None:
        SplitConfig(self.split, self.split_seed)
        if self.path is not None and self.name != "file":
            raise LimitError("path", self.path, "null, or belong to data=file")
        if len(self.boundary) != 1 or self.boundary.isspace():
            raise LimitError("boundary", repr(self.boundary), "one character, not a space")


@dataclass(frozen=True, eq=False)
class WordList:
    """The words of a file, in the file's order, and their alphabet."""

    path: Path
    words: tuple[str, ...]
    alphabet: Alphabet


def load_words(config: DataConfig) -> WordList:
    """The list of words that a config names. A process reads a file again only after it has changed.

    Raises:
        RequestError: the list cannot be fetched or read.
    """
    path = _find(config)
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            raise RequestError(
                f"data.path is {config.path}, {_kind(stat.st_mode)}; it must be a file that can be read "
                "again and again: save the words in a text file, one a line"
            )
        return _read(path, config.boundary, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise RequestError(f"data={config.name}: {path} cannot be read ({error.strerror})") from None
    except DataError as error:
        raise RequestError(f"data={config.name}: {error}") from None


def remarks_on(words: WordList, dev: int) -> list[str]:
    """What is odd about a list of words that leaves so many dev words."""
    return list(list_remarks(words.path.name, words.words, words.alphabet.characters, dev))


def _kind(mode: int) -> str:
    kinds = {"a folder": S_ISDIR, "a named pipe": S_ISFIFO, "a socket": S_ISSOCK}
    return next((kind for kind, is_kind in kinds.items() if is_kind(mode)), "a device")


@functools.lru_cache(maxsize=4)
def _read(path: Path, boundary: str, changed: int, size: int) -> WordList:
    words = tuple(read_words(path, boundary))
    return WordList(path, words, Alphabet.of(words, boundary))


def _find(config: DataConfig) -> Path:
    if config.name == "given_names":
        return GIVEN_NAMES
    if config.name == "names":
        return fetch_names()
    if config.name == "file":
        if not config.path:
            raise RequestError("data.path is not given; data=file needs data.path=FILE, one item per line")
        return Path(os.path.expanduser(config.path)).absolute()  # noqa: PTH111 - Path raises for an unknown ~user
    raise RequestError(f"data is {config.name}; it must be given_names, names or file")


def fetch_names() -> Path:
    """The path of the lectures' names.txt, checked by hash: in the folder MAKEMORE_DATA_DIR, or else in a cache.

    Raises:
        RequestError: the file is missing or has another hash, or it cannot be fetched.
    """
    folder = os.environ.get("MAKEMORE_DATA_DIR")
    if folder:
        path = Path(folder) / "names.txt"
        if not path.is_file():
            raise RequestError(f"MAKEMORE_DATA_DIR is {folder}; it must be a folder with names.txt in it")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != NAMES_SHA256:
            raise RequestError(
                f"{path} has SHA-256 {digest}; the lectures' names.txt has {NAMES_SHA256}: fetch it again"
            )
        return path
    import pooch

    pooch.get_logger().setLevel("ERROR")
    try:
        fetched = pooch.retrieve(NAMES_URL, NAMES_SHA256, fname="names.txt", path=pooch.os_cache("makemore-sweeps"))
    except ValueError:
        raise RequestError(f"{NAMES_URL} no longer has SHA-256 {NAMES_SHA256}; data=names needs that file") from None
    except OSError as error:  # requests' errors are OSErrors
        reason = type(error).__name__
        raise RequestError(
            f"data=names could not be fetched from {NAMES_URL} ({reason}); "
            "set MAKEMORE_DATA_DIR to a folder that has names.txt"
        ) from None
    return Path(fetched)
