"""Define what stages work on, and the stages without pairs: source, alignment, fine-tuning.

See FSFT, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cryoet_core.runs.run import Run
from cryoet_fsft.augment import augmented
from cryoet_fsft.cubes import BATCH, Cubes
from cryoet_fsft.domains import Domains
from cryoet_fsft.networks import SOURCE, TARGET, Discriminator, Networks
from cryoet_fsft.training import batches, step

Encoded = tuple[Tensor, Tensor]


@dataclass
class Job:
    """What the stages of one run work on.

    Attributes
    ----------
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    domains : Domains
        Source and target, matched.
    source : Cubes
        Subtomograms of the whole source.
    target : Cubes
        Subtomograms of the whole target.
    networks : Networks
        Encoder and classifier.
    record : Mapping[str, Any]
        What a stage's checkpoint is good for: the source, its classes and the encoder.
    discriminator : Discriminator | None
        The discriminator, in methods that have one.
    """

    config: Any
    run: Run
    domains: Domains
    source: Cubes
    target: Cubes
    networks: Networks
    record: Mapping[str, Any]
    discriminator: Discriminator | None = None


class TrainingStage:
    """Hold what stages have in common: the job, an optimiser, batches with their labels.

    Parameters
    ----------
    job : Job
        What the stages of the run work on.
    epochs : int
        Number of epochs.
    learning_rate : float
        Learning rate of Adam.
    """

    name: str
    title: str
    moves = True

    def __init__(self, job: Job, epochs: int, learning_rate: float) -> None:
        self.job, self.epochs = job, epochs
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(job.networks.parameters(), learning_rate)
        ]

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Modules that the checkpoint holds."""
        return {"networks": self.job.networks}

    @property
    def record(self) -> Mapping[str, Any]:
        """Return what the checkpoint is good for."""
        return self.job.record

    def finish(self) -> None:
        """Do nothing after the last epoch."""

    def source_batch(self, places: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return source subtomograms at places among the classes in use, and their labels."""
        domains = self.job.domains
        cubes = augmented(
            self.job.source[domains.source_rows[places]], self.job.config.augment, generator
        )
        return cubes, domains.source_labels[places].to(cubes.device)

    def target_batch(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return target subtomograms at rows of the file, and their labels."""
        cubes = augmented(self.job.target[rows], self.job.config.augment, generator)
        return cubes, self.job.domains.target_labels[rows].to(cubes.device)

    def classified(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean cross-entropy, eq. (2) with the 1/n of eq. (1)."""
        return cross_entropy(logits.float(), labels, label_smoothing=self.job.config.smoothing)

    def generator(self, number: int) -> torch.Generator:
        """Return the source of random numbers of an epoch."""
        return self.job.run.generator(self.name, number)


class SourceStage(TrainingStage):
    """Train source blocks, shared blocks and classifier on the source (stage 1).

    The target then starts as the source.
    """

    name, title = "source", "1: source"

    def __init__(self, job: Job) -> None:
        super().__init__(job, job.config.source_epochs, job.config.learning_rate)

    def epoch(self, number: int) -> float:
        """Train for one epoch and return its mean loss."""
        generator, networks = self.generator(number), self.job.networks.train()
        losses = []
        for places in batches(
            len(self.job.domains.source_rows), self.job.config.batch_size, generator
        ):
            cubes, labels = self.source_batch(places, generator)
            with self.job.run.autocast():
                logits = networks(cubes, SOURCE)
            losses.append(step(self.optimisers[0], self.classified(logits, labels)))
        return mean(losses)

    def finish(self) -> None:
        """Start the target as the source."""
        self.job.networks.begin_target()


Distance = Callable[[Tensor, Tensor, torch.Generator], Tensor]


class AlignStage(TrainingStage):
    """Train on source labels and a distance between both domains' features (stage 2.1).

    An epoch is one pass over the source; as many target subtomograms are drawn, the whole target
    before any of them twice.

    Parameters
    ----------
    job : Job
        What the stages of the run work on.
    title : str
        Title in the table of stages.
    distance : Distance
        Function of both domains' features and a generator.
    """

    name = "align"
    OPTIONS = (
        *("align_epochs", "align_batch", "align_learning_rate", "augment", "smoothing"),
        *("alpha", "squared", "swd_weight", "projections", "power"),
    )
    """What its outcome depends on, beside the data and stage 1; a method has some of them."""

    def __init__(self, job: Job, title: str, distance: Distance) -> None:
        super().__init__(job, job.config.align_epochs, job.config.align_learning_rate)
        self.title, self.distance = title, distance

    @property
    def record(self) -> Mapping[str, Any]:
        """Return what the checkpoint is good for."""
        run, config = self.job.run, self.job.config
        target = [
            part.get("sha256_sampled", part["path"]) for part in run.facts["fingerprints"]["target"]
        ]
        options = {name: getattr(config, name) for name in self.OPTIONS if hasattr(config, name)}
        how = {
            "title": self.title,
            "seed": run.seed,
            "split": self.job.networks.target is not self.job.networks.source,
        }
        return {**self.job.record, "target": target, "alignment": how | options}

    def epoch(self, number: int) -> float:
        """Train for one epoch and return its mean loss."""
        generator, networks = self.generator(number), self.job.networks.train()
        n, m = len(self.job.domains.source_rows), len(self.job.target)
        size = min(self.job.config.align_batch, n, m)
        rounds = [torch.randperm(m, generator=generator) for _ in range(-(-n // m) + 1)]
        partners, losses, start = torch.cat(rounds), [], 0
        for places in batches(n, size, generator):
            rows = partners[start : start + len(places)]
            start += len(places)
            cubes, labels = self.source_batch(places, generator)
            others, _ = self.target_batch(rows, generator)
            with self.job.run.autocast():
                (_, features), (_, theirs) = networks.encode_both(cubes, others)
                logits = networks.classifier(features)
            loss = self.classified(logits, labels) + self.distance(
                features.float(), theirs.float(), generator
            )
            losses.append(step(self.optimisers[0], loss))
        return mean(losses)


class TuneStage(TrainingStage):
    """Train on the shots, on as many subtomograms in an epoch as the source has."""

    name, title = "adapt", "fine-tuning on the shots"

    def __init__(self, job: Job) -> None:
        super().__init__(job, job.config.adapt_epochs, job.config.adapt_learning_rate)

    def epoch(self, number: int) -> float:
        """Train for one epoch and return its mean loss."""
        generator, networks, shots = (
            self.generator(number),
            self.job.networks.train(),
            self.job.domains.shots,
        )
        n = len(self.job.domains.source_rows)
        losses = []
        for places in batches(n, min(self.job.config.tune_batch, n), generator):
            cubes, labels = self.target_batch(shots[places % len(shots)], generator)
            with self.job.run.autocast():
                logits = networks(cubes, TARGET)
            losses.append(step(self.optimisers[0], self.classified(logits, labels)))
        return mean(losses)


def mean(losses: list[Tensor]) -> float:
    """Average the losses of an epoch; the only place where the device is waited for."""
    return float(torch.stack(losses).mean())


@torch.no_grad()
def encoded(job: Job, cubes: Cubes, rows: Tensor, domain: int) -> Encoded:
    """Compute maps and features with running statistics.

    Parameters
    ----------
    job : Job
        What the stages of the run work on.
    cubes : Cubes
        Subtomograms of one domain.
    rows : Tensor
        Rows of that domain.
    domain : int
        ``SOURCE`` or ``TARGET``.

    Returns
    -------
    Encoded
        Maps (n, h, m, m, m) and features (n, d).
    """
    networks = job.networks.eval()
    with job.run.autocast():
        parts = [networks.encode(cubes[part], domain) for part in rows.split(BATCH)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
