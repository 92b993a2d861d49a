"""What a voxel shows does not depend on how the volume is turned over (paper 004, equation 14)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss


def consistency(logits: Tensor, turned: Tensor) -> Tensor:
    """Mean squared difference of the probabilities of two views (b, c, d, h, w), the second turned
    back.
    """
    return mse_loss(logits.sigmoid(), turned.sigmoid())
