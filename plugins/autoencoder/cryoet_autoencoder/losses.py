"""Define the autoencoder's objective."""

from __future__ import annotations

from torch import Tensor


def reconstruction(decoded: Tensor, seen: Tensor) -> Tensor:
    """Average the squared difference over voxels and volumes."""
    return (decoded - seen).square().mean()


def penalty(codes: Tensor) -> Tensor:
    """Average over volumes the sum of |code| (n, dim), whatever the size of the batch."""
    return codes.abs().sum(1).mean()
