"""The stages that the methods are made of (paper 001, section 2; baselines: README)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cryoet_core.run import Run
from cryoet_fsft.augment import augmented
from cryoet_fsft.cubes import BATCH, Cubes
from cryoet_fsft.domains import Domains
from cryoet_fsft.losses import CROSS_DOMAIN_OTHER_CLASS, CROSS_DOMAIN_SAME_CLASS, domain_class_confusion
from cryoet_fsft.networks import SOURCE, TARGET, Discriminator, Networks
from cryoet_fsft.pairs import Pairs, PairSampler
from cryoet_fsft.training import batches, step

Encoded = tuple[Tensor, Tensor]


@dataclass
class Job:
    """What the stages of one run work on. ``source`` and ``target`` are the cubes of the whole files.

    record: what a stage's checkpoint is good for: the source, its classes and the encoder.
    """

    config: Any
    run: Run
    domains: Domains
    source: Cubes
    target: Cubes
    networks: Networks
    record: Mapping[str, Any]
    discriminator: Discriminator | None = None


class _Stage:
    """What stages have in common: the job, an optimiser, batches of cubes with their labels."""

    name: str
    title: str
    moves = True

    def __init__(self, job: Job, epochs: int, learning_rate: float) -> None:
        self.job, self.epochs = job, epochs
        self.optimisers: list[torch.optim.Optimizer] = [torch.optim.Adam(job.networks.parameters(), learning_rate)]

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """What its checkpoint holds."""
        return {"networks": self.job.networks}

    @property
    def record(self) -> Mapping[str, Any]:
        return self.job.record

    def finish(self) -> None:
        """Nothing to do after the last epoch."""

    def source_batch(self, places: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Source cubes at places among the classes in use, and their labels."""
        domains = self.job.domains
        cubes = augmented(self.job.source[domains.source_rows[places]], self.job.config.augment, generator)
        return cubes, domains.source_labels[places].to(cubes.device)

    def target_batch(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Target cubes at rows of the file, and their labels."""
        cubes = augmented(self.job.target[rows], self.job.config.augment, generator)
        return cubes, self.job.domains.target_labels[rows].to(cubes.device)

    def classified(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, eq. (2) with the 1/n of eq. (1)."""
        return cross_entropy(logits.float(), labels, label_smoothing=self.job.config.smoothing)

    def generator(self, number: int) -> torch.Generator:
        return self.job.run.generator(self.name, number)


class SourceStage(_Stage):
    """Stage 1: source blocks, shared blocks and classifier on the source; the target then starts as the source."""

    name, title = "source", "1: source"

    def __init__(self, job: Job) -> None:
        super().__init__(job, job.config.source_epochs, job.config.learning_rate)

    def epoch(self, number: int) -> float:
        generator, networks = self.generator(number), self.job.networks.train()
        losses = []
        for places in batches(len(self.job.domains.source_rows), self.job.config.batch_size, generator):
            cubes, labels = self.source_batch(places, generator)
            with self.job.run.autocast():
                logits = networks(cubes, SOURCE)
            losses.append(step(self.optimisers[0], self.classified(logits, labels)))
        return mean(losses)

    def finish(self) -> None:
        self.job.networks.begin_target()


Distance = Callable[[Tensor, Tensor, torch.Generator], Tensor]


class AlignStage(_Stage):
    """Stage 2.1: source labels, and a distance between the features of source and unlabelled target.

    An epoch is one pass over the source; as many target cubes are drawn, the whole target before any of them twice.
    """

    name = "align"

    def __init__(self, job: Job, title: str, distance: Distance) -> None:
        super().__init__(job, job.config.align_epochs, job.config.align_learning_rate)
        self.title, self.distance = title, distance

    def epoch(self, number: int) -> float:
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
                features = networks.encode(cubes, SOURCE)[1]
                logits = networks.classifier(features)
                theirs = networks.encode(others, TARGET)[1]
            loss = self.classified(logits, labels) + self.distance(features.float(), theirs.float(), generator)
            losses.append(step(self.optimisers[0], loss))
        return mean(losses)


class TuneStage(_Stage):
    """Fine-tuning: cross-entropy on the shots, as many cubes in an epoch as the source has."""

    name, title = "adapt", "fine-tuning on the shots"

    def __init__(self, job: Job) -> None:
        super().__init__(job, job.config.adapt_epochs, job.config.adapt_learning_rate)

    def epoch(self, number: int) -> float:
        generator, networks, shots = self.generator(number), self.job.networks.train(), self.job.domains.shots
        n = len(self.job.domains.source_rows)
        losses = []
        for places in batches(n, min(self.job.config.tune_batch, n), generator):
            cubes, labels = self.target_batch(shots[places % len(shots)], generator)
            with self.job.run.autocast():
                logits = networks(cubes, TARGET)
            losses.append(step(self.optimisers[0], self.classified(logits, labels)))
        return mean(losses)


class DiscriminatorStage(_Stage):
    """Stage 2.2: the discriminator learns the four groups of pairs; encoders and classifier are frozen.

    Frozen means that what they say of a cube never changes, so every cube passes them once, before the first epoch.
    """

    name, title, moves = "discriminate", "2.2: discriminator", False

    def __init__(self, job: Job) -> None:
        super().__init__(job, job.config.discriminator_epochs, job.config.discriminator_learning_rate)
        assert job.discriminator is not None
        self.discriminator = job.discriminator
        self.optimisers = [torch.optim.Adam(self.discriminator.parameters(), job.config.discriminator_learning_rate)]
        self.sampler = sampler(job)
        self._seen: tuple[Encoded, Encoded] | None = None

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"networks": self.job.networks, "discriminator": self.discriminator}

    def epoch(self, number: int) -> float:
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


class ConfusionStage(_Stage):
    """Stage 3: encoders and classifier confuse the discriminator about the domain and classify source and shots.

    gamma L_DCD + L_s + L_t on cross-domain pairs. The discriminator is frozen; with ``adversarial`` it learns, after
    each batch, to tell the groups of other pairs apart again.
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
        return {"networks": self.job.networks, "discriminator": self.discriminator}

    def epoch(self, number: int) -> float:
        generator, config, losses = self.generator(number), self.job.config, []
        m = len(self.job.domains.shots)
        for _ in range(config.pair_draws):
            pairs = self.sampler.draw(generator)
            parts = batches(m, max(1, config.pair_batch // 2), generator)
            others = torch.randperm(len(pairs), generator=generator).tensor_split(len(parts))
            for shots, rest in zip(parts, others, strict=True):
                losses.append(self.confuse(pairs, shots, generator))
                if self.adversarial:
                    self.discriminate(pairs.select(rest), generator)
        return mean(losses)

    def confuse(self, pairs: Pairs, shots: Tensor, generator: torch.Generator) -> Tensor:
        """One step of encoders and classifier on the cross-domain pairs, G2 and G4, of some shots.

        A shot is in one pair of each group and passes the encoder once.
        """
        networks, m = self.job.networks.train(), len(self.job.domains.shots)
        if self.job.config.keep_statistics:
            keep_statistics(networks)
        self.discriminator.eval().requires_grad_(False)
        partners = [pairs.first[group * m + shots] for group in (CROSS_DOMAIN_SAME_CLASS, CROSS_DOMAIN_OTHER_CLASS)]
        cubes, labels = self.source_batch(torch.cat(partners), generator)
        others, their_labels = self.target_batch(self.job.domains.shots[shots], generator)
        with self.job.run.autocast():
            ours, theirs = networks.encode(cubes, SOURCE), networks.encode(others, TARGET)
            logits = self.discriminator(ours, (theirs[0].repeat(2, 1, 1, 1, 1), theirs[1].repeat(2, 1))).float()
            ours_logits, their_logits = networks.classifier(ours[1]), networks.classifier(theirs[1])
        same, other = logits.split(len(shots))
        loss = self.job.config.gamma * domain_class_confusion(same, other)
        loss = loss + self.classified(ours_logits, labels) + self.classified(their_logits, their_labels)
        value = step(self.optimisers[0], loss)
        self.discriminator.requires_grad_(True)
        return value

    def discriminate(self, pairs: Pairs, generator: torch.Generator) -> None:
        """One step of the discriminator on pairs of all groups, the encoders as they are."""
        networks = self.job.networks.eval()
        self.discriminator.train()
        shots = self.job.domains.shots
        inside = (pairs.group != CROSS_DOMAIN_SAME_CLASS) & (pairs.group != CROSS_DOMAIN_OTHER_CLASS)
        with torch.no_grad(), self.job.run.autocast():
            first = networks.encode(self.source_batch(pairs.first, generator)[0], SOURCE)
            second = [torch.empty(len(pairs), *part.shape[1:], device=part.device, dtype=part.dtype) for part in first]
            for chosen, batch, domain in (
                (inside, lambda rows: self.source_batch(rows, generator), SOURCE),
                (~inside, lambda rows: self.target_batch(shots[rows], generator), TARGET),
            ):
                if chosen.any():
                    for whole, part in zip(
                        second, networks.encode(batch(pairs.second[chosen])[0], domain), strict=True
                    ):
                        whole[chosen.to(part.device)] = part
        with self.job.run.autocast():
            logits = self.discriminator(first, (second[0], second[1]))
        step(self.optimisers[1], cross_entropy(logits.float(), pairs.group.to(logits.device)))


def keep_statistics(networks: nn.Module) -> None:
    """Batch normalisation with the running statistics, which stay as they are."""
    for module in networks.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()


def sampler(job: Job) -> PairSampler:
    domains = job.domains
    return PairSampler(domains.source_labels, domains.target_labels[domains.shots])


def mean(losses: list[Tensor]) -> float:
    """Of the batches of an epoch; the only place where the device is waited for."""
    return float(torch.stack(losses).mean())


@torch.no_grad()
def encoded(job: Job, cubes: Cubes, rows: Tensor, domain: int) -> Encoded:
    """Maps and features of the cubes at ``rows``, with running statistics."""
    networks = job.networks.eval()
    with job.run.autocast():
        parts = [networks.encode(cubes[part], domain) for part in rows.split(BATCH)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def gathered(pairs: Pairs, source: Encoded, shots: Encoded) -> tuple[Encoded, Encoded]:
    """Maps and features of both members of pairs, from those of all source cubes and all shots."""
    device = source[1].device
    first, second = pairs.first.to(device), pairs.second.to(device)
    across = ((pairs.group == CROSS_DOMAIN_SAME_CLASS) | (pairs.group == CROSS_DOMAIN_OTHER_CLASS)).to(device)

    def member(ours: Tensor, theirs: Tensor) -> Tensor:
        found = torch.empty(len(pairs), *ours.shape[1:], dtype=ours.dtype, device=device)
        found[~across], found[across] = ours[second[~across]], theirs[second[across]]
        return found

    return (source[0][first], source[1][first]), (member(source[0], shots[0]), member(source[1], shots[1]))
