import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makemore.contexts import build_examples
from makemore.data import GIVEN_NAMES, Alphabet, DataError, deal, read_words, split_words
from sweeps.task.held_out import read_test_items

WORD_LISTS = st.lists(st.text("abcdé ñ", min_size=1, max_size=6), min_size=30, max_size=80)


def test_the_shipped_names_are_distinct_sorted_and_plain() -> None:
    lines = GIVEN_NAMES.read_text(encoding="ascii").splitlines()
    assert len(lines) >= 4000
    assert lines == sorted(set(lines))
    assert all(name.isascii() and name.isalpha() and name.islower() and 2 <= len(name) <= 15 for name in lines)


def test_windows_line_ends_a_byte_order_mark_blank_lines_and_spaces_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "towns.txt"
    path.write_bytes(b"\xef\xbb\xbfOslo\r\n\r\n  Sao Paulo \r\nK\xc3\xb6ln\n\n")
    assert read_words(path) == ["Oslo", "Sao Paulo", "Köln"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 items"),
        (b"emma\n", "has 1 items"),
        (b"\x00\x01\x02emma\n", "not a text file"),
        (b"emma\nol\xe9\n", "is not UTF-8 (line 2)"),
        (b"emma\nst. ives\n", "line 2: '.' stands in an item"),
    ],
)
def test_a_bad_file_gets_one_line_that_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_words(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt cannot be read"):
        read_words(tmp_path / "absent.txt")


def test_another_boundary_frees_the_full_stop(tmp_path: Path) -> None:
    path = tmp_path / "towns.txt"
    path.write_text("St. Ives\nOslo\n")
    assert read_words(path, boundary="|") == ["St. Ives", "Oslo"]


def test_the_lecture_split_is_the_lectures_shuffle_and_cuts() -> None:
    words = [f"w{number}" for number in range(1000)]
    expected = list(words)
    random.seed(42)
    random.shuffle(expected)
    split = split_words(words, "lecture", 42)
    assert split.train == expected[:800]
    assert split.dev == expected[800:900]


def test_the_lecture_split_of_names_has_the_lectures_numbers_of_examples(names_file: Path) -> None:
    words = read_words(names_file)
    assert (len(words), len(set(words))) == (32033, 29494)
    split = split_words(words, "lecture", 42)
    alphabet = Alphabet.of(words)
    train, dev, everything = (len(build_examples(part, alphabet, 3)) for part in (split.train, split.dev, words))
    assert (train, dev, everything - train - dev) == (182625, 22655, 22866)


@settings(deadline=None)  # a busy machine may take longer
@given(WORD_LISTS, st.integers(0, 9), st.sampled_from(["lecture", "disjoint"]))
def test_every_line_is_dealt_to_exactly_one_split(words: list[str], seed: int, rule: str) -> None:
    distinct = len(set(words)) if rule == "disjoint" else len(words)
    if distinct < 10:
        with pytest.raises(DataError, match="at least 10"):
            deal(words, rule, seed)
        return
    parts = deal(words, rule, seed)
    assert sorted(index for part in parts for index in part) == list(range(len(words)))
    assert all(parts)


@settings(deadline=None)  # a busy machine may take longer
@given(WORD_LISTS.filter(lambda words: len(set(words)) >= 10), st.integers(0, 9), st.randoms())
def test_a_disjoint_split_never_parts_equal_words_and_ignores_their_order(
    words: list[str], seed: int, rng: random.Random
) -> None:
    split = split_words(words, "disjoint", seed)
    test = read_test_items(words, "disjoint", seed)
    assert not set(split.train) & set(split.dev)
    assert not (set(split.train) | set(split.dev)) & set(test)
    shuffled = list(words)
    rng.shuffle(shuffled)
    again = split_words(shuffled, "disjoint", seed)
    assert (sorted(again.train), sorted(again.dev)) == (sorted(split.train), sorted(split.dev))
    assert again.fingerprint("test") == split.fingerprint("test")


def test_a_fingerprint_names_content_rule_seed_and_part() -> None:
    words = [f"w{number}" for number in range(50)]
    splits = [
        split_words(words, "disjoint", 1),
        split_words(words, "disjoint", 2),
        split_words(words, "lecture", 1),
        split_words([*words, "new"], "disjoint", 1),
    ]
    prints = {split.fingerprint(part) for split in splits for part in ("train", "dev", "test")}
    assert len(prints) == 12
    assert all(len(fingerprint) == 64 for fingerprint in prints)
    assert len({split.source_digest for split in splits}) == 2
