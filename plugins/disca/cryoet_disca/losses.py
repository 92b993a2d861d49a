"""What the network is trained on: smoothed pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth(labels: Tensor, k: int, alpha: float) -> Tensor:
    """(1 - alpha) onehot + alpha / k, (n, k); rows sum to 1."""
    onehot = torch.nn.functional.one_hot(labels, k).float()
    return (1 - alpha) * onehot + alpha / k


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -sum_k target_k log softmax(logits)_k."""
    return torch.nn.functional.cross_entropy(logits, targets)


def hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """The reference code's categorical hinge on probabilities p and smoothed labels y, averaged
    over the batch: max(0, max_k (1 - y_k) p_k - sum_k y_k p_k + 1)."""
    p = logits.softmax(1)
    wrong = ((1 - targets) * p).amax(1)
    right = (targets * p).sum(1)
    return (wrong - right + 1).clamp(min=0).mean()


LOSSES = {"cross_entropy": cross_entropy, "hinge": hinge}
