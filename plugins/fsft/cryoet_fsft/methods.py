"""The six trainers: which stages each one runs, on one encoder and one set of domains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cryoet_fsft import config as options
from cryoet_fsft.losses import coral, random_directions, sliced_wasserstein
from cryoet_fsft.networks import Discriminator
from cryoet_fsft.pair_stages import ConfusionStage, DiscriminatorStage
from cryoet_fsft.stages import AlignStage, Job, SourceStage, TuneStage
from cryoet_fsft.trainer import DomainTrainer, MakeStage


def coral_stage(job: Job) -> AlignStage:
    """Stage 2.1 of the paper."""
    config = job.config

    def distance(source: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        weighted: Tensor = config.alpha * coral(source, target, config.squared)
        return weighted

    return AlignStage(job, "2.1: CORAL", distance)


def wasserstein_stage(job: Job) -> AlignStage:
    """As stage 2.1, with the sliced Wasserstein distance."""
    config = job.config

    def distance(source: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        directions = random_directions(
            source.shape[1], config.projections, generator, source.device
        )
        distance = sliced_wasserstein(source, target, directions, config.power)
        weighted: Tensor = config.swd_weight * distance
        return weighted

    return AlignStage(job, "sliced Wasserstein", distance)


class Fsft(DomainTrainer):
    name = "fsft"
    summary = (
        "few-shot domain adaptation: classifies real subtomograms from simulated ones and a "
        "few labels (paper 001)"
    )
    Config = options.FsftConfig
    split_encoder = True

    def stages(self) -> list[MakeStage]:
        adversarial = self.config.adversarial
        title = "3: confusion, adversarial" if adversarial else "3: confusion"
        align = [coral_stage] if self.config.coral else []
        return [
            SourceStage,
            *align,
            DiscriminatorStage,
            lambda job: ConfusionStage(job, title, adversarial),
        ]

    def discriminator(self, edge: int, width: int, channels: int) -> Discriminator:
        return Discriminator(edge, width, channels, conv=self.config.conv_discriminator)


class Fada(DomainTrainer):
    name = "fada"
    summary = (
        "few-shot adversarial domain adaptation: one encoder and a discriminator of pairs, "
        "trained by turns"
    )
    Config = options.FadaConfig

    def stages(self) -> list[MakeStage]:
        return [
            SourceStage,
            DiscriminatorStage,
            lambda job: ConfusionStage(job, "adversarial", True),
        ]

    def discriminator(self, edge: int, width: int, channels: int) -> Discriminator:
        return Discriminator(edge, width, channels, conv=False)


class DeepCoral(DomainTrainer):
    name = "deep_coral"
    summary = "Deep CORAL: source labels, and equal covariances of source and unlabelled target"
    Config = options.DeepCoralConfig
    needs_shots = False

    def stages(self) -> list[MakeStage]:
        return [SourceStage, coral_stage]


class Swd(DomainTrainer):
    name = "swd"
    summary = (
        "source labels, and equal random projections of source and unlabelled target (sliced "
        "Wasserstein)"
    )
    Config = options.SwdConfig
    needs_shots = False

    def stages(self) -> list[MakeStage]:
        return [SourceStage, wasserstein_stage]


class FineTune(DomainTrainer):
    name = "finetune"
    summary = "trained on the source, then on the few labelled target volumes"
    Config = options.FineTuneConfig

    def stages(self) -> list[MakeStage]:
        return [SourceStage, TuneStage]


class SourceOnly(DomainTrainer):
    name = "source_only"
    summary = "trained on the source alone: what every adaptation has to beat"
    Config = options.SourceOnlyConfig
    needs_shots = False

    def stages(self) -> list[MakeStage]:
        return [SourceStage]


_TINY: dict[str, Any] = {"width": 2, "channels": 8, "source_epochs": 1, "shots": 2}
_PAIRS = {"discriminator_epochs": 1, "adapt_epochs": 1}
Fsft.tiny = _TINY | _PAIRS | {"align_epochs": 1}
Fada.tiny = _TINY | _PAIRS | {"calibrate": False}
DeepCoral.tiny = Swd.tiny = _TINY | {"align_epochs": 1}
FineTune.tiny = _TINY | {"adapt_epochs": 1}
SourceOnly.tiny = _TINY
