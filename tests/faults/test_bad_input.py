"""Bad input by generation: whatever configs, sweep words and lists say, the answer is a run or one line.

MAKEMORE_BAD_INPUTS is the number of cases in all; 2,000 take less than a minute.
"""

import copy
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Makemore
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeps.config.files import conf_dir
from sweeps.config.messages import one_line
from sweeps.config.reading import read_node
from sweeps.errors import RequestError
from sweeps.search.space import SpaceConfig, read_space, read_warm_start
from sweeps.study.on_end import read_hooks
from sweeps.study.request import StudyConfig
from sweeps.task.run_config import read_run_config

CASES = int(os.environ.get("MAKEMORE_BAD_INPUTS", "400"))
MOST_SECONDS = 20  # for one case: more is a hang
COUNTED: Counter[str] = Counter()

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", " ", "'", '"', "a/b", "../../etc/passwd", "🙂", "x" * 10_000, "${seed}", "${nothing}", "${oc.env:NO_SUCH}"]
    ),
    st.sampled_from(["null", "nan", "true", "[1", "{a: 1", "1,2", "a=b", "\x00", "\n", "sqlite:///x.db", "~nobody/x"]),
)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 10**9, 2**63, 2**64, 10**400, 1e308, -0.0, 1e-320]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda parts: st.one_of(st.lists(parts, max_size=3), st.dictionaries(st.text(max_size=5), parts, max_size=3)),
    max_leaves=5,
)
SWEPT = ("model.block_size", "model", "schedule.lr", "schedule", "seed", "train.steps", "data.split", "nothing", "")
WORDS = st.one_of(
    TEXTS,
    st.builds(
        "{}({})".format,
        st.sampled_from(["choice", "range", "interval", "tag", "int", "float", "sort", "shuffle", "glob", "log"]),
        st.lists(st.one_of(NUMBERS.map(str), TEXTS), max_size=4).map(",".join),
    ),
    st.builds("tag(log,interval({},{}))".format, NUMBERS, NUMBERS),
    st.builds("int(interval({},{}))".format, NUMBERS, NUMBERS),
    st.lists(st.one_of(NUMBERS.map(str), TEXTS), min_size=2, max_size=4).map(",".join),
)
LINES = st.one_of(
    st.text(max_size=12), st.sampled_from(["emma", "emma", ".", "a.b", " ", "\u2028", "é", "e\u0301", "x" * 500])
)
LISTS = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda lines, end, encoding: end.join(lines).encode(encoding, "replace"),
        st.lists(LINES, max_size=60),
        st.sampled_from(["\n", "\r\n", "\r", ",", "\t", "\n\n"]),
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32"]),
    ),
    st.sampled_from(
        [b"", b"\n" * 1_000_000, b"x" * 2_000_000, b"emma\n" * 1000, b"a.b\n" * 50, b"\xff\xfe", b"a,b,c\n1,2,3\n" * 40]
    ),
)


def many(part: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A share of the cases; each must end soon."""
    return settings(
        max_examples=max(1, round(CASES * part)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def composed() -> Iterator[DictConfig]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield compose("config", return_hydra_config=False)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        if OmegaConf.is_dict(value := node[key]):
            yield from leaves(value, f"{prefix}{key}.")


def check_answer(kind: str, folder: Path, action: Callable[[], object]) -> None:
    """Assert that an action works or is refused in one line, soon, and writes nothing."""
    COUNTED[kind] += 1
    started = time.monotonic()
    try:
        action()
    except RequestError as error:
        message = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        message = one_line(error)
    else:
        message = "fine"
    assert message.strip()
    assert "\n" not in message, message
    assert time.monotonic() - started < MOST_SECONDS
    assert list(folder.iterdir()) == []


def test_configs(composed: DictConfig, empty: Path) -> None:
    keys = sorted(set(leaves(composed)) - {"data.name"})  # data.name=names would fetch the list

    def read(changes: dict[str, Any]) -> None:
        cfg = copy.deepcopy(composed)
        for key, value in changes.items():
            with suppress(ValueError, TypeError):  # no config can have a key below what another change made a list
                OmegaConf.update(cfg, key, value, merge=False, force_add=True)
        read_run_config(cfg).check()
        read_node(StudyConfig, cfg, "study")
        read_hooks(cfg)
        words = read_node(SpaceConfig, cfg, "space")
        read_warm_start(words, read_space(words, [], lambda fixed: read_run_config(cfg).params()))

    @many(0.5)
    @given(st.dictionaries(st.sampled_from(keys), VALUES, min_size=1, max_size=3))
    def run(changes: dict[str, Any]) -> None:
        check_answer("configs", empty, lambda: read(changes))

    run()
    assert COUNTED["configs"] >= CASES * 0.45


def test_sweep_words(composed: DictConfig, empty: Path) -> None:
    config = read_node(SpaceConfig, composed, "space")

    def read(arguments: list[str]) -> None:
        read_space(config, arguments, lambda fixed: read_run_config(composed).params())

    @many(0.25)
    @given(st.lists(st.builds("{}={}".format, st.sampled_from(SWEPT), WORDS), min_size=1, max_size=3))
    def run(arguments: list[str]) -> None:
        check_answer("sweep words", empty, lambda: read(arguments))

    run()
    assert COUNTED["sweep words"] >= CASES * 0.2


def test_lists_of_words(composed: DictConfig, empty: Path, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"

    def deal(split: str, boundary: str) -> None:
        cfg = copy.deepcopy(composed)
        cfg.data.name, cfg.data.path, cfg.data.split, cfg.data.boundary = "file", str(file), split, boundary
        config = read_run_config(cfg)
        config.check()
        items = config.deal_items()
        list(config.task.remarks(items.split.dev))

    @many(0.25)
    @given(LISTS, st.sampled_from(["lecture", "disjoint"]), st.sampled_from([".", "\u00e9", "a"]))
    def run(content: bytes, split: str, boundary: str) -> None:
        file.write_bytes(content)
        check_answer("lists", empty, lambda: deal(split, boundary))

    run()
    assert COUNTED["lists"] >= CASES * 0.2


@pytest.mark.parametrize(
    "arguments",
    [
        ("study.name='a b'",),
        ('study.name="a\\"b"',),
        ("study.name=../x",),
        ("study.name=🙂",),
        (f"study.name={'x' * 10_000}",),
        ("study.n_trials=nan",),
        ("study.n_trials=-1",),
        ("study.workers=1e3",),
        ("model.block_size=interval(8,2)",),
        ("model.block_size=3", "model.block_size=2,3", "space.settings=[{model.block_size: 9}]"),
        ("space.conditions={schedule.lr: {schedule: none}}",),
        ("space.params={model.block_size: 'range(1,'}",),
        ("train.steps=0",),
        ("schedule.lr=inf,1",),
    ],
)
def test_through_the_command_line_nothing_is_started(
    makemore: Makemore, empty: Path, arguments: tuple[str, ...]
) -> None:
    answer = makemore("sweep", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("makemore: ")
    assert answer.err.count("\n") == 1
    assert list(empty.iterdir()) == []
