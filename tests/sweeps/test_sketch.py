"""Lists are recognised from a few hundred hashes, whatever was done to them, and strangers are not."""

import random

import pytest

from sweeps.task.sketch import Sketch, plain, read_sketch, sketch

KEY = "a key"


def names(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(count)]


def pair(shared: float, seed: int, count: int = 2000) -> tuple[Sketch, Sketch]:
    """Sketches of two lists of which the given share stands in both."""
    both = names(round(count * shared), seed)
    lists = [both + names(count - len(both), 2 * seed + 10_000 + side) for side in (0, 1)]
    return sketch(lists[0], KEY), sketch(lists[1], KEY)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 0.9, 1.0])
def test_an_overlap_is_estimated_within_its_error(share: float) -> None:
    found = [first.overlap(second) for first, second in (pair(share, seed) for seed in range(20))]
    assert sum(abs(overlap.of_first - share) <= 2 * overlap.error + 1e-3 for overlap in found) >= 17
    assert all(overlap.error < 0.04 for overlap in found)


def test_of_small_lists_the_overlap_is_exact() -> None:
    first, second = names(100, 1), names(100, 1)[:40] + names(20, 2)
    overlap = sketch(first, KEY).overlap(sketch(second, KEY))
    assert (overlap.of_first, overlap.of_second, overlap.error) == (pytest.approx(0.4), pytest.approx(2 / 3), 0)


@pytest.mark.slow
def test_of_a_thousand_pairs_that_share_nothing_or_little_none_are_confused() -> None:
    for seed in range(1000):
        for shared in (0.0, 0.02):
            first, second = pair(shared, seed, count=1200)
            overlap = first.overlap(second)
            assert max(overlap.of_first, overlap.of_second) < 0.05


def test_case_spaces_normal_form_order_and_repeats_make_no_other_item() -> None:
    words = ["Zoë", "łukasz ", "MARÍA", "straße", "ﬁnn"]
    other = ["finn", "STRASSE", "maría", "Łukasz", "zoe\u0308", "ZOË"]
    assert sketch(words, KEY) == sketch(other, KEY)
    assert plain(" É ") == plain("e\u0301")


def test_a_sketch_survives_its_record_and_says_nothing_without_its_key() -> None:
    made = sketch(names(3000, 4), KEY)
    assert read_sketch(made.as_json()) == made
    assert len(made.hashes) == 512
    assert not made.hashes & sketch(names(3000, 4), "another key").hashes


def test_of_nothing_there_is_no_overlap() -> None:
    assert sketch([], KEY).overlap(sketch([], KEY)).of_first == 0
