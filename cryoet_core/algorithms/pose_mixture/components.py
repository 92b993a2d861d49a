"""Operations on the components of a pose mixture: which to keep, where they lie, at which
resolution.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cryoet_core.algorithms.centring import translate
from cryoet_core.algorithms.pose_mixture.band import FrequencyBand, resize
from cryoet_core.algorithms.pose_mixture.em import Parameters
from cryoet_core.algorithms.pose_mixture.state import Reduce


def survivors(
    mixed: Tensor, k: int, merge: float, reduce: Reduce = lambda tensor: tensor
) -> Tensor:
    """Which of the first ``k`` components to keep, from log(weight * evidence), (n, k) or with an
    empty one (n, k + 1).

    One that is nobody's best goes. Then, one after the other, the component goes whose own
    particles lose the smallest share of their evidence when the remaining ones have to explain
    them, while that share is below ``merge``.
    """
    alive = list(range(mixed.shape[1]))
    while sum(b < k for b in alive) > 1:
        current = mixed[:, alive]
        whole = current.logsumexp(1).clamp(
            min=0
        )  # what is explained worse than by nothing tells nothing
        own = torch.nn.functional.one_hot(current.argmax(1), len(alive)).float()
        without = torch.stack(
            [
                torch.cat([current[:, :b], current[:, b + 1 :]], 1).logsumexp(1)
                for b in range(len(alive))
            ],
            1,
        ).clamp(min=0)
        loss = reduce((own * (whole[:, None] - without)).sum(0))
        gain = reduce((own * whole[:, None]).sum(0))
        size = reduce(own.sum(0))
        ratio = torch.where(size > 0, loss / gain.clamp(min=1e-6), torch.full_like(loss, -1.0))
        ratio[[i for i, b in enumerate(alive) if b >= k]] = torch.inf
        worst = int(ratio.argmin())
        if float(ratio[worst]) >= merge:
            break
        del alive[worst]
    return torch.tensor([b for b in alive if b < k], device=mixed.device)


def select(parameters: Parameters, keep: Tensor, k: int) -> Parameters:
    weights = parameters.weights[keep]
    if len(parameters.weights) > k:
        weights = torch.cat([weights, parameters.weights[k:]])
    return Parameters(parameters.templates[keep], weights / weights.sum(), parameters.noise)


def recentred(templates: Tensor) -> tuple[Tensor, Tensor]:
    """Move each density's centre of gravity (of its square) to the box centre; also where (k, 3) it
    was, voxels.

    Densities and shifts are known only together: without this, copies of one structure would lie at
    different places and could not be told to be copies. The particles' shifts have to follow.
    """
    size = templates.shape[-1]
    line = torch.arange(size, device=templates.device, dtype=torch.float32) - size // 2
    mass = templates.square()
    total = mass.sum((1, 2, 3)).clamp(min=1e-20)
    axes = [
        (mass * line.view([-1 if a == b else 1 for b in range(3)])).sum((1, 2, 3)) / total
        for a in range(3)
    ]
    centres = torch.stack(axes, 1)
    return translate(templates, -centres), centres


def with_empty(parameters: Parameters) -> Parameters:
    if len(parameters.weights) > len(parameters.templates):
        return parameters
    return replace(
        parameters,
        weights=torch.cat([parameters.weights * 0.98, parameters.weights.new_tensor([0.02])]),
    )


def fit_to(parameters: Parameters, band: FrequencyBand) -> Parameters:
    """The parameters at another resolution: templates resampled, the noise level continued to new
    shells.
    """
    if parameters.templates.shape[-1] == band.small and len(parameters.noise) == band.radius + 1:
        return parameters
    noise = parameters.noise[: band.radius + 1]
    if len(noise) <= band.radius:
        noise = torch.cat([noise, noise[-1:].expand(band.radius + 1 - len(noise))])
    return Parameters(resize(parameters.templates, band.small), parameters.weights, noise)
