"""The training loop: Adam, a tenth of the learning rate after each third, resumable at every
checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.crops import Crops, Sampler
from cryoet_pu_picker.network import STRIDE, HybridNetwork
from cryoet_pu_picker.objective import RunningTerms, objective
from cryoet_pu_picker.prior import Priors
from cryoet_pu_picker.scenes import Scene
from cryoet_pu_picker.targets import splat

TRAINING = "training"
EVERY = 50
"""Steps between checkpoints."""
NARROWEST = 0.5
"""Cells; the reference code's smallest standard deviation."""
SETTLING = 30
"""Draws of crops over which the statistics of batch normalisation are renewed at the end."""


def sigmas_of(diameters: Sequence[float], voxel_size: float, share: float) -> Tensor:
    """(c, 3): standard deviations of the soft targets in cells of the heat map, never so small that
    a centre stands alone."""
    widths = torch.tensor(
        [share * diameter / voxel_size for diameter in diameters], dtype=torch.float64
    )
    return (widths[:, None] / torch.tensor(STRIDE, dtype=torch.float64)).clamp(min=NARROWEST)


def train(
    network: HybridNetwork,
    sampler: Sampler,
    sigmas: Tensor,
    priors: Priors,
    config: PUPickerConfig,
    run: Run,
) -> None:
    """Train in place; the network ends in eval mode with batch statistics of the crops of whole
    tomograms.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    usual = RunningTerms(config.memory)
    done = _restore(network, optimiser, priors, usual, run)
    counts = {math.ceil(third * config.iterations / 3) for third in (1, 2)}
    network.train()
    sums: dict[str, float] = {}
    for step in run.progress(range(done, config.iterations), "training"):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * decay(step, config)
        if priors.counted and step in counts:
            network.eval()
            priors.count(network, config, run, step)
            network.train()
        crops = sampler.draw(run.generator("crops", step), config.noise * cosine(step, config))
        targets = targets_of(crops, sigmas).to(run.device)
        generator = run.generator("views", step)
        terms = objective(
            network,
            crops.volumes.to(run.device),
            targets,
            priors.prior,
            config,
            generator,
            usual,
            run.autocast,
        )
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        optimiser.step()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if (step + 1) % EVERY == 0 or step + 1 == config.iterations:
            count = step % EVERY + 1
            run.log(
                step=step,
                **{name: value / count for name, value in sums.items()},
                copies=priors.copies,
            )
            sums = {}
            _keep(network, optimiser, priors, usual, step + 1, run)
    settle(network, sampler, run)


def decay(step: int, config: PUPickerConfig) -> float:
    """Factor on the learning rate."""
    if config.schedule == "steps":
        return float(0.1 ** (3 * step // config.iterations))
    return cosine(step, config)


def cosine(step: int, config: PUPickerConfig) -> float:
    """From 1 at the start to 0 at the end."""
    return (1 + math.cos(math.pi * step / config.iterations)) / 2


def targets_of(crops: Crops, sigmas: Tensor) -> Tensor:
    """The soft targets of some crops, (b, c, d, h / 2, w / 2), float32."""
    b, _, d, h, w = crops.volumes.shape
    shape = (b, len(sigmas), d, -(-h // STRIDE[1]), -(-w // STRIDE[2]))
    return splat(crops.positions, crops.species, crops.rows, sigmas, shape).float()


@torch.no_grad()
def settle(network: HybridNetwork, sampler: Sampler, run: Run) -> None:
    """Renew the statistics of batch normalisation on crops drawn as in training, all with the same
    weight.
    """
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for draw in range(SETTLING):
        network.joined(sampler.draw(run.generator("settle", draw)).volumes.to(run.device))
    network.eval()


@torch.no_grad()
def remember(network: HybridNetwork, scenes: Sequence[Scene], sampler: Sampler, run: Run) -> None:
    """Show the network the features at the labels, each in the middle of what is around it, and
    those of any voxels.
    """
    assert network.likeness is not None
    own: list[list[Tensor]] = [[] for _ in range(len(network.likeness.prototypes))]
    about = []
    size = np.array([2 * network.fused + 1, sampler.shape[1], sampler.shape[2]])
    for scene in scenes:
        for place, kind in zip(scene.positions, scene.species, strict=True):
            shape = np.minimum(size, scene.tomogram.shape)
            start = np.clip(
                np.round(place - (shape - 1) / 2).astype(int),
                0,
                np.array(scene.tomogram.shape) - shape,
            )
            features = network(scene.crop(start, shape, network.bands)[None].to(run.device))[1][0]
            cell = np.floor((place - start + 0.5) / np.array(STRIDE)).astype(int)
            z, y, x = np.clip(cell, 0, np.array(features.shape[1:]) - 1)
            own[kind].append(features[:, z, y, x])
    for draw in range(SETTLING):
        features = network(sampler.draw(run.generator("remember", draw)).volumes.to(run.device))[1]
        about.append(features.movedim(1, -1).flatten(0, -2))
    network.likeness.learn([torch.stack(some) for some in own], torch.cat(about))


def _keep(
    network: HybridNetwork,
    optimiser: torch.optim.Optimizer,
    priors: Priors,
    usual: RunningTerms,
    done: int,
    run: Run,
) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors["usual"] = usual.values
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
    run.save(TRAINING, tensors, {"done": done, "copies": priors.copies})


def _restore(
    network: HybridNetwork,
    optimiser: torch.optim.Optimizer,
    priors: Priors,
    usual: RunningTerms,
    run: Run,
) -> int:
    """Put back what the last checkpoint holds; the number of steps done. UserError for another
    version's.
    """
    saved = run.load(TRAINING)
    if saved is None:
        return 0
    tensors, facts = saved
    weights = part(tensors, "network.")
    if weights.keys() != network.state_dict().keys():
        raise UserError(
            f"{run.dir}: its training was begun by another version of pu_picker, whose network "
            "differs; expected one "
            "of this version; start it again in a new folder"
        )
    network.load_state_dict(weights)
    state: dict[int, dict[str, Any]] = {}
    for name, value in part(tensors, "adam.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    usual.values = tensors["usual"]
    priors.copies = facts["copies"]
    return int(facts["done"])


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names start with the prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
