from itertools import pairwise

import pytest

from makemore.corpus import build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.limits import LimitError
from makemore.lr_range import LrRange, LrRangeResult, lr_range_test
from makemore.mlp import MLPConfig
from makemore.optimizer import SGD, AdamW, Optimizer
from makemore.train import TrainConfig

ADAMW = AdamW(weight_decay=0.01, beta1=0.9, beta2=0.999, epsilon=1e-8)


def result(optimizer: Optimizer, low: float = 1e-4, high: float = 10.0) -> LrRangeResult:
    words = read_words(GIVEN_NAMES)
    corpus = build_corpus(split_words(words, "disjoint", 42), Alphabet.of(words), 3)
    config = TrainConfig(32, 1, 1, "distribution", 0.8, "float32")
    return lr_range_test(corpus, MLPConfig(3, 10, 100, 0.0), optimizer, config, LrRange(low, high, 400), seed=0)


def test_rates_rise_by_one_factor_from_low_to_high() -> None:
    rates = LrRange(1e-4, 1.0, 101).rates()
    assert rates[0] == 1e-4
    assert rates[-1] == pytest.approx(1.0)
    assert all(later / earlier == pytest.approx(10**0.04) for earlier, later in pairwise(rates))


def test_it_stops_where_the_loss_diverges_and_suggests_a_rate_below() -> None:
    adamw = result(ADAMW)
    assert adamw.diverged
    assert len(adamw.lr) == len(adamw.loss) == len(adamw.smoothed) < 400
    assert 1e-4 < adamw.search_low < adamw.suggestion < adamw.search_high < adamw.lr[-1]
    assert 3e-4 < adamw.suggestion < 3e-2  # where AdamW trains such a model well


def test_plain_sgd_wants_a_much_larger_rate_than_adamw() -> None:
    assert result(SGD(0.0)).suggestion > 10 * result(ADAMW).suggestion


def test_a_range_that_ends_before_the_divergence_says_so() -> None:
    assert not result(ADAMW, high=0.01).diverged


def test_a_range_that_does_not_rise_is_refused() -> None:
    with pytest.raises(LimitError, match=r"high is 0\.1; it must be > 0\.1"):
        LrRange(0.1, 0.1, 100)
