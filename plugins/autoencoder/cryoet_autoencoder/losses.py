"""The autoencoder's objective."""

from __future__ import annotations

from torch import Tensor


def reconstruction(decoded: Tensor, seen: Tensor) -> Tensor:
    """The mean over voxels and volumes of the squared difference."""
    return (decoded - seen).square().mean()


def penalty(codes: Tensor) -> Tensor:
    """The mean over volumes of the sum of |code| (n, dim): it does not depend on the size of the
    batch.
    """
    return codes.abs().sum(1).mean()
