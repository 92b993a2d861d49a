"""Define the stages with pairs of subtomograms: discriminator, and encoders that confuse it.

See FSFT, sections 2.2 and 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cryoet_fsft.losses import (
    CROSS_DOMAIN_OTHER_CLASS,
    CROSS_DOMAIN_SAME_CLASS,
    domain_class_confusion,
)
from cryoet_fsft.networks import SOURCE, TARGET
from cryoet_fsft.pairs import Pairs, PairSampler
from cryoet_fsft.stages import Encoded, Job, TrainingStage, encoded, mean
from cryoet_fsft.training import batches, step

LEAST_STEPS = 12
"""In an epoch of the last stage: a handful of classes with three shots each would make one or two.
"""


class DiscriminatorStage(TrainingStage):
    """Train the discriminator on the four groups of pairs (stage 2.2); all else is frozen.

    Frozen means that what the encoders say of a subtomogram never changes, so every subtomogram
    passes them once, before the first epoch.
    """

    name, title, moves = "discriminate", "2.2: discriminator", False

    def __init__(self, job: Job) -> None:
        super().__init__(
            job, job.config.discriminator_epochs, job.config.discriminator_learning_rate
        )
        assert job.discriminator is not None
        self.discriminator = job.discriminator
        self.optimisers = [
            torch.optim.Adam(
                self.discriminator.parameters(), job.config.discriminator_learning_rate
            )
        ]
        self.sampler = sampler(job)
        self._seen: tuple[Encoded, Encoded] | None = None

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Modules that the checkpoint holds."""
        return {"networks": self.job.networks, "discriminator": self.discriminator}

    def epoch(self, number: int) -> float:
        """Train for one epoch and return its mean loss."""
        if self._seen is None:
            domains = self.job.domains
            self._seen = (
                encoded(self.job, self.job.source, domains.source_rows, SOURCE),
                encoded(self.job, self.job.target, domains.shots, TARGET),
            )
        generator = self.generator(number)
        self.discriminator.train()
        pairs, losses = self.sampler.draw(generator), []
        for rows in batches(len(pairs), self.job.config.discriminator_batch, generator):
            some = pairs.select(rows)
            with self.job.run.autocast():
                logits = self.discriminator(*gathered(some, *self._seen))
            loss = cross_entropy(logits.float(), some.group.to(logits.device))
            losses.append(step(self.optimisers[0], loss))
        return mean(losses)


class ConfusionStage(TrainingStage):
    """Train encoders and classifier to confuse the discriminator about the domain (stage 3).

    They also classify source and shots: gamma L_DCD + L_s + L_t on cross-domain pairs. The
    discriminator is frozen; with ``adversarial`` it learns, after each batch, to tell the groups
    of other pairs apart again.

    Parameters
    ----------
    job : Job
        What the stages of the run work on.
    title : str
        Title in the table of stages.
    adversarial : bool
        Whether the discriminator learns too.
    """

    name = "adapt"

    def __init__(self, job: Job, title: str, adversarial: bool) -> None:
        config = job.config
        super().__init__(job, config.adapt_epochs, config.adapt_learning_rate)
        assert job.discriminator is not None
        self.title, self.discriminator, self.sampler = title, job.discriminator, sampler(job)
        if adversarial:
            rate = config.discriminator_learning_rate
            self.optimisers.append(torch.optim.Adam(self.discriminator.parameters(), rate))
        self.adversarial = adversarial

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Modules that the checkpoint holds."""
        return {"networks": self.job.networks, "discriminator": self.discriminator}

    def epoch(self, number: int) -> float:
        """Train for one epoch and return its mean loss."""
        generator, config, losses = self.generator(number), self.job.config, []
        m, size = len(self.job.domains.shots), max(1, config.pair_batch // 2)
        for _ in range(config.pair_draws or -(-LEAST_STEPS // max(1, m // size))):
            pairs = self.sampler.draw(generator)
            parts = batches(m, size, generator)
            others = torch.randperm(len(pairs), generator=generator).tensor_split(len(parts))
            for shots, rest in zip(parts, others, strict=True):
                losses.append(self.confuse(pairs, shots, generator))
                if self.adversarial:
                    self.discriminate(pairs.select(rest), generator)
        return mean(losses)

    def confuse(self, pairs: Pairs, shots: Tensor, generator: torch.Generator) -> Tensor:
        """Make one step of encoders and classifier on cross-domain pairs, G2 and G4, of some shots.

        A shot is in one pair of each group and passes the encoder once.

        Parameters
        ----------
        pairs : Pairs
            Pairs of all shots.
        shots : Tensor
            Places (s,) of the shots of this step.
        generator : torch.Generator
            Source of random numbers, on the CPU.

        Returns
        -------
        Tensor
            The loss, a scalar.
        """
        networks, m = self.job.networks.train(), len(self.job.domains.shots)
        if self.job.config.keep_statistics:
            keep_statistics(networks)
        self.discriminator.eval().requires_grad_(False)
        partners = [
            pairs.first[group * m + shots]
            for group in (CROSS_DOMAIN_SAME_CLASS, CROSS_DOMAIN_OTHER_CLASS)
        ]
        cubes, labels = self.source_batch(torch.cat(partners), generator)
        others, their_labels = self.target_batch(self.job.domains.shots[shots], generator)
        with self.job.run.autocast():
            ours, theirs = networks.encode_both(cubes, others)
            logits = self.discriminator(
                ours, (theirs[0].repeat(2, 1, 1, 1, 1), theirs[1].repeat(2, 1))
            ).float()
            ours_logits, their_logits = networks.classifier(ours[1]), networks.classifier(theirs[1])
        same, other = logits.split(len(shots))
        loss = self.job.config.gamma * domain_class_confusion(same, other)
        loss = (
            loss
            + self.classified(ours_logits, labels)
            + self.classified(their_logits, their_labels)
        )
        value = step(self.optimisers[0], loss)
        self.discriminator.requires_grad_(True)
        return value

    def discriminate(self, pairs: Pairs, generator: torch.Generator) -> None:
        """Make one step of the discriminator on pairs of all groups, the encoders as they are."""
        networks = self.job.networks.eval()
        self.discriminator.train()
        shots = self.job.domains.shots
        inside = (pairs.group != CROSS_DOMAIN_SAME_CLASS) & (
            pairs.group != CROSS_DOMAIN_OTHER_CLASS
        )
        with torch.no_grad(), self.job.run.autocast():
            first = networks.encode(self.source_batch(pairs.first, generator)[0], SOURCE)
            second = [
                torch.empty(len(pairs), *part.shape[1:], device=part.device, dtype=part.dtype)
                for part in first
            ]
            for chosen, domain in ((inside, SOURCE), (~inside, TARGET)):
                if chosen.any():
                    rows = pairs.second[chosen]
                    volumes, _ = (
                        self.source_batch(rows, generator)
                        if domain == SOURCE
                        else self.target_batch(shots[rows], generator)
                    )
                    for whole, part in zip(second, networks.encode(volumes, domain), strict=True):
                        whole[chosen.to(part.device)] = part
        with self.job.run.autocast():
            logits = self.discriminator(first, (second[0], second[1]))
        step(self.optimisers[1], cross_entropy(logits.float(), pairs.group.to(logits.device)))


def keep_statistics(networks: nn.Module) -> None:
    """Normalise batches with the running statistics, which stay as they are."""
    for module in networks.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()


def sampler(job: Job) -> PairSampler:
    """Build the sampler of pairs."""
    domains = job.domains
    return PairSampler(domains.source_labels, domains.target_labels[domains.shots])


def gathered(pairs: Pairs, source: Encoded, shots: Encoded) -> tuple[Encoded, Encoded]:
    """Look up maps and features of both members of pairs.

    Parameters
    ----------
    pairs : Pairs
        Pairs (p,).
    source : Encoded
        Maps and features of all source subtomograms.
    shots : Encoded
        Maps and features of all shots.

    Returns
    -------
    tuple[Encoded, Encoded]
        Maps and features of the first and of the second members.
    """
    device = source[1].device
    first, second = pairs.first.to(device), pairs.second.to(device)
    across = (
        (pairs.group == CROSS_DOMAIN_SAME_CLASS) | (pairs.group == CROSS_DOMAIN_OTHER_CLASS)
    ).to(device)

    def member(ours: Tensor, theirs: Tensor) -> Tensor:
        found = torch.empty(len(pairs), *ours.shape[1:], dtype=ours.dtype, device=device)
        found[~across], found[across] = ours[second[~across]], theirs[second[across]]
        return found

    return (source[0][first], source[1][first]), (
        member(source[0], shots[0]),
        member(source[1], shots[1]),
    )
