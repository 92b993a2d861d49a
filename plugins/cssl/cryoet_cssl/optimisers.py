"""Build optimisers by name, LARS and LARC among them, and store their state as tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

TRUST, MOMENTUM = 1e-3, 0.9


class Lars(torch.optim.SGD):
    """Scale the SGD step of each matrix by |weights| / |gradient|, with momentum (LARS).

    Biases and other vectors take plain steps without decay, as is usual.

    Parameters
    ----------
    parameters : Iterable[nn.Parameter]
        Parameters to train.
    lr : float
        Learning rate.
    weight_decay : float
        Weight decay of matrices.
    clip : bool
        Whether the scale is at most 1 beside the plain learning rate (LARC).

    References
    ----------
    You et al. (2017). Large batch training of convolutional networks. arXiv:1708.03888.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, clip: bool
    ) -> None:
        super().__init__(parameters, lr=lr, momentum=MOMENTUM)
        self.decay, self.clip = weight_decay, clip

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one step."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None or p.ndim < 2:
                    continue
                weight, slope = float(p.norm()), float(p.grad.norm())
                if weight == 0 or slope == 0:
                    continue
                rate = TRUST * weight / (slope + self.decay * weight)
                rate = min(rate / group["lr"], 1.0) if self.clip else rate
                p.grad.add_(p, alpha=self.decay).mul_(rate)
        return super().step(closure)


def optimiser_of(
    name: str, parameters: Iterable[nn.Parameter], rate: float, decay: float
) -> torch.optim.Optimizer:
    """Build an optimiser by name.

    Parameters
    ----------
    name : str
        "adam", "sgd" (momentum 0.9), "lars" or "larc".
    parameters : Iterable[nn.Parameter]
        Parameters to train.
    rate : float
        Learning rate.
    decay : float
        Weight decay.
    """
    if name == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=MOMENTUM)
    return Lars(parameters, rate, decay, clip=name == "larc")


def cosine(rate: float, done: float) -> float:
    """Return the learning rate after the fraction ``done`` of all steps: from ``rate`` down to 0.

    Examples
    --------
    >>> round(cosine(1.0, 0.5), 3)
    0.5
    """
    return rate * 0.5 * (1 + math.cos(math.pi * done))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix.``, without it."""
    return {
        name[len(prefix) + 1 :]: value
        for name, value in tensors.items()
        if name.startswith(prefix + ".")
    }


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors with ``prefix.`` before their names."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}
