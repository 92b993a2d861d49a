"""Define the six trainers: which stages each one runs, on one encoder and one set of domains."""

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
    """Build stage 2.1 of FSFT."""
    config = job.config

    def distance(source: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        weighted: Tensor = config.alpha * coral(source, target, config.squared)
        return weighted

    return AlignStage(job, "2.1: CORAL", distance)


def wasserstein_stage(job: Job) -> AlignStage:
    """Build stage 2.1 with the sliced Wasserstein distance."""
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
    """Adapt with CORAL, a discriminator of pairs and confusion (FSFT).

    References
    ----------
    Yu et al. (2021). Few shot domain adaptation for in situ macromolecule structural
    classification in cryoelectron tomograms. Bioinformatics 37, 185-191.
    doi:10.1093/bioinformatics/btaa671.
    """

    name = "fsft"
    summary = (
        "few-shot domain adaptation: classifies real subtomograms from simulated ones and a "
        "few labels (FSFT)"
    )
    Config = options.FsftConfig
    split_encoder = True

    def stages(self) -> list[MakeStage]:
        """Return the stages in order."""
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
        """Build the discriminator, with maps unless an ablation leaves them out.

        Parameters
        ----------
        edge : int
            Edge of the volumes in voxels.
        width : int
            Channels of the convolutions.
        channels : int
            Channels of the last block.
        """
        return Discriminator(edge, width, channels, conv=self.config.conv_discriminator)


class Fada(DomainTrainer):
    """Adapt one encoder and a discriminator of pairs alternately (FADA).

    References
    ----------
    Motiian et al. (2017). Few-shot adversarial domain adaptation. arXiv:1711.02536.
    """

    name = "fada"
    summary = (
        "few-shot adversarial domain adaptation: one encoder and a discriminator of pairs, "
        "trained alternately"
    )
    Config = options.FadaConfig

    def stages(self) -> list[MakeStage]:
        """Return the stages in order."""
        return [
            SourceStage,
            DiscriminatorStage,
            lambda job: ConfusionStage(job, "adversarial", True),
        ]

    def discriminator(self, edge: int, width: int, channels: int) -> Discriminator:
        """Build a discriminator of features.

        Parameters
        ----------
        edge : int
            Edge of the volumes in voxels.
        width : int
            Channels of the convolutions.
        channels : int
            Channels of the last block.
        """
        return Discriminator(edge, width, channels, conv=False)


class DeepCoral(DomainTrainer):
    """Learn source labels and make the covariances of both domains equal (Deep CORAL).

    References
    ----------
    Sun and Saenko (2016). Deep CORAL: correlation alignment for deep domain adaptation.
    doi:10.1007/978-3-319-49409-8_35.
    """

    name = "deep_coral"
    summary = "Deep CORAL: source labels, and equal covariances of source and unlabelled target"
    Config = options.DeepCoralConfig
    needs_shots = False

    def stages(self) -> list[MakeStage]:
        """Return the stages in order."""
        return [SourceStage, coral_stage]


class Swd(DomainTrainer):
    """Learn source labels and make random projections of both domains equal."""

    name = "swd"
    summary = (
        "source labels, and equal random projections of source and unlabelled target (sliced "
        "Wasserstein)"
    )
    Config = options.SwdConfig
    needs_shots = False

    def stages(self) -> list[MakeStage]:
        """Return the stages in order."""
        return [SourceStage, wasserstein_stage]


class FineTune(DomainTrainer):
    """Train on the source, then on the shots."""

    name = "finetune"
    summary = "trained on the source, then on the few labelled target volumes"
    Config = options.FineTuneConfig

    def stages(self) -> list[MakeStage]:
        """Return the stages in order."""
        return [SourceStage, TuneStage]


class SourceOnly(DomainTrainer):
    """Train on the source alone."""

    name = "source_only"
    summary = "trained on the source alone: what every adaptation has to beat"
    Config = options.SourceOnlyConfig
    needs_shots = False

    def stages(self) -> list[MakeStage]:
        """Return the stages in order."""
        return [SourceStage]


_TINY: dict[str, Any] = {"width": 2, "channels": 8, "source_epochs": 1, "shots": 2}
_PAIRS = {"discriminator_epochs": 1, "adapt_epochs": 1}
Fsft.tiny = _TINY | _PAIRS | {"align_epochs": 1}
Fada.tiny = _TINY | _PAIRS | {"calibrate": False}
DeepCoral.tiny = Swd.tiny = _TINY | {"align_epochs": 1}
FineTune.tiny = _TINY | {"adapt_epochs": 1}
SourceOnly.tiny = _TINY
