"""Define what the three methods learn by: modules that rate two views of a batch.

``objective(first, second)`` gives the loss and the fraction of views that found their partner;
``before_step`` and ``after_step`` stand around the optimiser's step. All that a step changes is in
``state_dict``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cryoet_cssl.losses import (
    info_nce_logits,
    nt_xent_logits,
    similarities,
    sinkhorn,
    swapped_prediction,
    unit,
)

Gather = Callable[[Tensor], Tensor]
"""Rows of all processes, in rank order."""
INSTANCE_TEMPERATURE = 0.2
"""Of SwAV's warm-up, as in SimCLR."""
EPSILON, ROUNDS = 0.05, 3
"""Smoothness of SwAV's codes and rounds of balancing them, as published.
"""
QUEUE_FROM = 0.6
"""The fraction of a run after which MoCo's queue counts, with ``ramp``."""


def projector(dim: int, out: int, norm: bool) -> nn.Sequential:
    """Build the projection head: linear, ReLU, linear, dim -> dim -> out.

    Normalisation after the second layer leaves nothing that all subtomograms share. So neither the
    features of an encoder without normalisation, which are nearly one vector at first, nor their
    drift while it learns hides how subtomograms differ.

    Parameters
    ----------
    dim : int
        Features of the encoder.
    out : int
        Length of the result.
    norm : bool
        Whether batch normalisation follows both linear layers.
    """
    middle: list[nn.Module] = [nn.BatchNorm1d(dim)] if norm else []
    last: list[nn.Module] = [nn.BatchNorm1d(out, affine=False)] if norm else []
    return nn.Sequential(nn.Linear(dim, dim), *middle, nn.ReLU(), nn.Linear(dim, out), *last)


class Objective(nn.Module):
    """Hold the encoder, its projection head and the features (2n, dim) of the last batch.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    config : Any
        Options of the run, of which ``projection`` and ``projection_norm`` count here.
    gather : Gather
        Function that joins rows of all processes, in rank order.
    """

    def __init__(self, encoder: nn.Module, config: Any, gather: Gather) -> None:
        super().__init__()
        self.encoder, self.config, self.gather = encoder, config, gather
        dim: Any = encoder.dim  # an int in every encoder, which torch's types do not know
        self.projector = projector(dim, config.projection, config.projection_norm)
        self.features = torch.empty(0, dim)
        self.done = 0.0
        """The fraction of the run that is over, set before every epoch."""

    def projected(self, views: Tensor) -> Tensor:
        """Project views (n, 1, b, b, b) to unit vectors (n, projection)."""
        self.features = self.encoder(views)
        return unit(self.projector(self.features))

    def before_step(self) -> None:
        """Do nothing between the gradients and the optimiser's step."""

    def after_step(self) -> None:
        """Do nothing after the optimiser's step."""


class SimclrObjective(Objective):
    """Find the partner among the other views of the batch (SimCLR), negatives from this process.

    References
    ----------
    Chen et al. (2020). A simple framework for contrastive learning of visual representations.
    arXiv:2002.05709.
    """

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the module; the class says the shapes."""
        one, two = self.projected(torch.cat([first, second])).chunk(2)
        logits, partner = nt_xent_logits(one, two, self.config.temperature)
        return nn.functional.cross_entropy(logits, partner), (
            logits.argmax(1) == partner
        ).float().mean()


class MocoObjective(Objective):
    """Find the key of the other view among earlier keys, made by a slowly following encoder (MoCo).

    The whole key network, projection included, follows: key = m key + (1 - m) query; buffers are
    copied. The batch need not divide the queue; of a larger batch the last keys stay. Without
    batch normalisation in the encoder, shuffling batches between processes would change nothing
    and is left out.

    Option ``symmetric``, ours: both views are queries, and the keys of the batch's other
    subtomograms are negatives too. Option ``ramp``, ours: m grows from 0 along a cosine, and the
    queue counts from ``QUEUE_FROM`` of the run on. An encoder that still changes in every step has
    nothing in common with its own past, and keys from there only keep it from learning.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    config : Any
        Options of the run.
    gather : Gather
        Function that joins rows of all processes, in rank order.

    References
    ----------
    He et al. (2020). Momentum contrast for unsupervised visual representation learning.
    arXiv:1911.05722.
    """

    queue: Tensor
    place: Tensor

    def __init__(self, encoder: nn.Module, config: Any, gather: Gather) -> None:
        super().__init__(encoder, config, gather)
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.register_buffer("queue", unit(torch.randn(config.queue, config.projection)))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the module; the class says the shapes."""
        symmetric = self.config.symmetric
        with torch.no_grad():
            keys = unit(
                self.key_projector(
                    self.key_encoder(torch.cat([second, first]) if symmetric else second)
                )
            )
        queries = self.projected(torch.cat([first, second]) if symmetric else first)
        parts = 2 if symmetric else 1
        found = [
            self._compared(q, k)
            for q, k in zip(queries.chunk(parts), keys.chunk(parts), strict=True)
        ]
        self.enqueue(self.gather(keys[: len(second)]))
        loss, share = (torch.stack(values).mean() for values in zip(*found, strict=True))
        return loss, share

    def _compared(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of queries (n, f) with their own keys (n, f), and the fraction found."""
        queue = (
            self.queue.clone()
            if self.done >= QUEUE_FROM or not self.config.ramp
            else self.queue[:0]
        )
        if self.config.symmetric:
            logits = similarities(queries, torch.cat([keys, queue])) / self.config.temperature
            own = torch.arange(len(queries), device=queries.device)
        else:
            logits = info_nce_logits(queries, keys, queue, self.config.temperature)
            own = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
        return nn.functional.cross_entropy(logits, own), (logits.argmax(1) == own).float().mean()

    @property
    def momentum(self) -> float:
        """The momentum m of the next step."""
        m: float = self.config.momentum
        return m * (1 - math.cos(math.pi * self.done)) / 2 if self.config.ramp else m

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Put keys (n, projection) in the place of the oldest."""
        size = len(self.queue)
        places = (self.place + torch.arange(len(keys), device=keys.device)) % size
        self.queue[places[-size:]] = keys[-size:]
        self.place.add_(len(keys)).remainder_(size)

    @torch.no_grad()
    def after_step(self) -> None:
        """Update what follows the optimiser's step."""
        m = self.momentum
        for key, query in ((self.key_encoder, self.encoder), (self.key_projector, self.projector)):
            for old, new in zip(key.parameters(), query.parameters(), strict=True):
                old.mul_(m).add_(new, alpha=1 - m)
            for kept, made in zip(key.buffers(), query.buffers(), strict=True):
                kept.copy_(made)


class SwavObjective(Objective):
    """Predict the other view's balanced code over prototypes (SwAV), without multi-crop.

    The codes of a batch are balanced together with those of earlier vectors, once the queue is
    full, for a small batch cannot fill the prototypes.

    Option ``warm_up``, ours: at first the views of a subtomogram are told from other subtomograms
    (NT-Xent), and the prototypes then start as vectors of subtomograms. Before two views have
    anything in common, their codes have not either, and the best answer to codes that cannot be
    predicted is to say the same of every subtomogram.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    config : Any
        Options of the run.
    gather : Gather
        Function that joins rows of all processes, in rank order.

    References
    ----------
    Caron et al. (2020). Unsupervised learning of visual features by contrasting cluster
    assignments. arXiv:2006.09882.
    """

    queue: Tensor
    seen: Tensor
    steps: Tensor

    def __init__(self, encoder: nn.Module, config: Any, gather: Gather) -> None:
        super().__init__(encoder, config, gather)
        self.prototypes = nn.Parameter(unit(torch.randn(config.prototypes, config.projection)))
        self.register_buffer("queue", torch.zeros(2, config.queue, config.projection))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the module; the class says the shapes."""
        vectors = self.projected(torch.cat([first, second])).chunk(2)
        if self.done < self.config.warm_up:
            self._enqueue([part.detach() for part in vectors])
            logits, partner = nt_xent_logits(vectors[0], vectors[1], INSTANCE_TEMPERATURE)
            return nn.functional.cross_entropy(logits, partner), (
                logits.argmax(1) == partner
            ).float().mean()
        if self.config.warm_up and not int(self.steps):
            self._start_prototypes(vectors[0].detach())
        scores = [similarities(part, self.prototypes) for part in vectors]
        codes = [self._codes(part.detach(), self.queue[view]) for view, part in enumerate(vectors)]
        self._enqueue([part.detach() for part in vectors])
        loss = swapped_prediction(scores[0], scores[1], codes[0], codes[1], self.config.temperature)
        agree = (scores[0].argmax(1) == codes[1].argmax(1)).float().mean()
        return loss, agree

    @torch.no_grad()
    def _codes(self, vectors: Tensor, queue: Tensor) -> Tensor:
        """(n, k) of our rows, balanced with the other processes' and the queue's."""
        everyone = self.gather(vectors)
        start = self._start(len(vectors))
        if len(queue) and int(self.seen) >= len(queue):
            everyone = torch.cat([everyone, queue])
        codes = sinkhorn(similarities(everyone, self.prototypes), EPSILON, ROUNDS)
        return codes[start : start + len(vectors)]

    @torch.no_grad()
    def _start_prototypes(self, vectors: Tensor) -> None:
        """Start prototypes with vectors of subtomograms, newest first, alike on all processes."""
        known = torch.cat([self.gather(vectors), self.queue[0][: int(self.seen)]])[
            : len(self.prototypes)
        ]
        self.prototypes[: len(known)] = known

    def _start(self, n: int) -> int:
        """Where our rows stand among those of all processes."""
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return 0
        counts = self.gather(torch.tensor([n], device=self.prototypes.device))
        return int(counts[: torch.distributed.get_rank()].sum())

    @torch.no_grad()
    def _enqueue(self, vectors: list[Tensor]) -> None:
        if not self.queue.shape[1]:
            return
        for view, part in enumerate(vectors):
            self.queue[view] = torch.cat([self.gather(part), self.queue[view]])[
                : self.queue.shape[1]
            ]
        self.seen.add_(len(self.gather(vectors[0])))

    def before_step(self) -> None:
        """Change gradients before the optimiser's step."""
        if int(self.steps) < self.config.freeze:
            self.prototypes.grad = None

    @torch.no_grad()
    def after_step(self) -> None:
        """Update what follows the optimiser's step."""
        if self.done < self.config.warm_up:
            return
        self.steps.add_(1)
        self.prototypes.copy_(unit(self.prototypes))
