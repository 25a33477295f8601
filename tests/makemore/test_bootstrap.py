import pytest
import torch

from makemore.bootstrap import intervals


@pytest.mark.slow
def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """200 lists of 150 words whose characters depend on each other: of 200 intervals at 95 %, 181 or fewer are a
    one-in-a-thousand event (binomial), and so are 198 or more with a bootstrap's slight undercoverage."""
    generator = torch.Generator().manual_seed(3)
    covered = 0
    for _ in range(200):
        characters = torch.randint(2, 12, (150,), generator=generator).double()
        of_word = torch.randn(150, generator=generator, dtype=torch.float64) * 0.5  # shared by a word's characters
        losses = characters * (2.0 + of_word) + characters.sqrt() * torch.randn(150, generator=generator)
        [(low, high)] = intervals(losses.unsqueeze(1), characters, generator, draws=1000)
        covered += low <= 2.0 <= high
    assert 181 < covered < 199
