import pytest
import torch

from makemore.dropout import DropoutMask


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5, 0.9])
def test_a_mask_drops_its_share_and_keeps_the_mean(dropout: float) -> None:
    mask = DropoutMask(1000, 301, dropout, torch.float32, torch.Generator().manual_seed(0)).draw()
    dropped = float((mask == 0).double().mean())
    assert abs(dropped - dropout) <= 5 * (dropout * (1 - dropout) / mask.numel()) ** 0.5  # five standard deviations
    assert set(mask.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - dropout)).item()}


def test_masks_follow_their_generator_and_are_drawn_anew() -> None:
    first, again = (DropoutMask(7, 5, 0.5, torch.float64, torch.Generator().manual_seed(1)) for _ in range(2))
    one, two = first.draw().clone(), first.draw().clone()
    assert torch.equal(one, again.draw())
    assert not torch.equal(one, two)
