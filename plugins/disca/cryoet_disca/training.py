"""One epoch of the network on its own clusters, each cube seen as it is and once turned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryoet_core.algorithms.transforms import random_rotations, rotate
from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_disca.config import DiscaConfig
from cryoet_disca.losses import LOSSES, smooth


def new_head(features: int, k: int, device: torch.device) -> nn.Linear:
    """A classifier of k clusters: Glorot uniform weights, zero bias."""
    head = nn.Linear(features, k)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    return head.to(device)


def train_head(
    head: nn.Linear,
    features: Tensor,
    labels: Tensor,
    alpha: float,
    config: DiscaConfig,
    run: Run,
    iteration: int,
) -> None:
    """Fit a new head alone on frozen features (n, f)."""
    optimiser = torch.optim.NAdam(head.parameters(), lr=config.head_learning_rate)
    targets = smooth(labels, head.out_features, alpha)
    for epoch in range(config.head_epochs):
        for rows in _batches(len(features), config, run, "head", iteration, epoch):
            loss = LOSSES[config.loss](
                head(features[rows.to(features.device)]), targets[rows.to(features.device)]
            )
            _step(optimiser, loss, list(head.parameters()), run)


def train_epoch(
    network: nn.Module,
    head: nn.Linear,
    volumes: DeviceVolumes,
    labels: Tensor,
    alpha: float,
    learning_rate: float,
    config: DiscaConfig,
    run: Run,
    iteration: int,
) -> float:
    """Train network and head on 2 n cubes (originals and turned copies); the mean loss over all
    processes.

    Corners that come from outside a turned cube are filled with noise of the cube's own mean and
    deviation, so that they are no clue. The optimiser starts afresh each iteration, as its learning
    rate and head may be new.
    """
    network.train()
    run.reseed("train", iteration)
    generator = run.generator("rotate", iteration, run.rank)
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.NAdam(parameters, lr=learning_rate)
    targets = smooth(labels, head.out_features, alpha)
    n, total, count = len(volumes), torch.zeros((), dtype=torch.float64), 0
    for rows in _batches(2 * n, config, run, "train", iteration):
        batch = _augmented(volumes, rows, n, generator)
        with run.autocast():
            logits = head(network(batch))
        loss = LOSSES[config.loss](logits.float(), targets[(rows % n).to(targets.device)])
        if _step(optimiser, loss, parameters, run):
            total += float(loss.detach()) * len(rows)
            count += len(rows)
    sums = run.all_reduce(
        torch.tensor([float(total), float(count)], dtype=torch.float64, device=labels.device)
    )
    network.eval()
    return float(sums[0] / sums[1].clamp(min=1))


def _augmented(volumes: DeviceVolumes, rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Rows below n as they are, the others turned by a random rotation."""
    batch = volumes[rows % n]
    turned = (rows >= n).nonzero()[:, 0].to(batch.device)
    if len(turned):
        matrices = random_rotations(len(turned), generator).to(batch.device)
        noise = generator if batch.device.type == "cpu" else None
        batch = batch.clone()
        batch[turned] = rotate(batch[turned], matrices, fill="noise", generator=noise)
    return batch


def _batches(n: int, config: DiscaConfig, run: Run, *key: str | int) -> list[Tensor]:
    """Shuffled rows of this process in batches of at least the asked size, as many on every
    process.

    Where each process has at least two rows, so has each batch: batch normalisation needs them.
    """
    size = max(2, config.batch_size // run.world_size)
    steps = max(1, int(run.all_reduce(torch.tensor(float(n)))) // run.world_size // size)
    return list(torch.randperm(n, generator=run.generator(*key, run.rank)).tensor_split(steps))


def _step(
    optimiser: torch.optim.Optimizer, loss: Tensor, parameters: list[nn.Parameter], run: Run
) -> bool:
    """One step, or none, on every process alike, where a gradient is not finite; whether it was
    made.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    run.average_gradients(parameters)
    finite = all(bool(torch.isfinite(p.grad).all()) for p in parameters if p.grad is not None)
    if finite:
        optimiser.step()
    return finite
