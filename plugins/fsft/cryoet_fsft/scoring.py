"""Take the target accuracy on the way, by either protocol, and calibrate the probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cryoet_core.runs.run import Run
from cryoet_fsft.cubes import BATCH
from cryoet_fsft.networks import TARGET
from cryoet_fsft.stages import Job

PAPER_BATCH = 32
COLDEST, HOTTEST = 0.5, 20.0
"""Temperatures: a handful of volumes that are all right would ask for 0."""


@torch.no_grad()
def target_logits(job: Job, rows: Tensor) -> Tensor:
    """Compute logits (n, classes) float32 of target volumes, by the job's protocol."""
    networks = job.networks.eval()
    with job.run.autocast():
        if not job.domains.counted or len(rows) < 2:
            parts = [networks(job.target[part], TARGET) for part in rows.split(BATCH)]
            return torch.cat(parts).float()
        with batch_statistics(networks):
            return batched_logits(
                len(rows), job.run, lambda part: networks(job.target[rows[part]], TARGET)
            ).float()


def accuracy(job: Job) -> float | None:
    """Return the fraction of counted target volumes whose class is found, or None without any."""
    rows = job.domains.scored
    if not len(rows):
        return None
    with job.run.timer("score"):
        found = target_logits(job, rows).argmax(1).cpu()
    return float((found == job.domains.target_labels[rows]).double().mean())


@contextmanager
def batch_statistics(networks: nn.Module) -> Iterator[None]:
    """Normalise with the statistics of each batch, the running ones left as they are."""
    norms = [module for module in networks.modules() if isinstance(module, nn.BatchNorm3d)]
    kept = [(norm.running_mean, norm.running_var) for norm in norms]
    try:
        for norm in norms:
            norm.running_mean = norm.running_var = None
        yield
    finally:
        for norm, (mean, var) in zip(norms, kept, strict=True):
            norm.running_mean, norm.running_var = mean, var


def batched_logits(n: int, run: Run, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute in shuffled batches of 32 (the shuffle is the seed's), rows back in order.

    Parameters
    ----------
    n : int
        Number of rows.
    run : Run
        The run: device, random numbers, log and checkpoints.
    compute : Callable[[Tensor], Tensor]
        Function from rows (b,) to values (b, ...).

    Returns
    -------
    Tensor
        Values (n, ...).
    """
    order = torch.randperm(n, generator=run.generator("batch statistics"))
    found = torch.cat(
        [compute(part) for part in order.tensor_split(max(1, round(n / PAPER_BATCH)))]
    )
    return found[order.argsort().to(found.device)]


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature of least cross-entropy of logits (n, classes), between 0.5 and 20."""
    scores, truth = logits.double().cpu(), labels.cpu()

    def loss(log_temperature: float) -> float:
        return float(cross_entropy(scores / np.exp(log_temperature), truth))

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))
