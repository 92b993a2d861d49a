"""Declare the options of the six methods: shared ones, and those of each."""

from __future__ import annotations

from typing import Any, Literal

from cryoet_core.plugins.config import Config, option

Augment = Literal["none", "turns", "mirrors"]


def setting(fast: Any, help: str, paper: Any, **more: Any) -> Any:
    """Declare an option whose value may differ between the presets.

    The default is that of ``fast``.

    Parameters
    ----------
    fast : Any
        Value of the preset ``fast``.
    help : str
        One line that says what the option does, and its unit.
    paper : Any
        Value of the preset ``paper``.
    **more : Any
        ``words``, the published value in words, and what ``option`` takes.

    Returns
    -------
    Any
        A field of pydantic.
    """
    words = more.pop("words", None)
    return option(fast, help, paper=words, presets={"fast": fast, "paper": paper}, **more)


class DomainConfig(Config):
    """Hold what every method has: domains, encoder, first stage and how accuracy is taken."""

    shots: int | None = option(
        None,
        "labelled target volumes of each class to learn from, drawn by the seed; none: the split "
        "train of the target's "
        "file, or 3 where it has none",
        ge=1,
        paper="3, 7",
    )
    protocol: Literal["held-out", "paper"] = option(
        "held-out",
        "how the target accuracy is taken. held-out: shots are not counted, running statistics, "
        "last epoch; paper: "
        "shots counted, statistics of batches of 32, best epoch of the last stage by that accuracy",
        advanced=True,
        paper="paper",
    )
    start: str | None = option(
        None,
        "folder of a finished run whose stage 1 is taken over instead of trained: same source, "
        "same encoder; its stage "
        "2.1, too, where target, seed and options are the same",
    )
    # the encoder
    width: int | None = option(
        None,
        "channels of the first three blocks; none: 16 for subtomograms below 32 voxels, else 32 "
        "(as "
        "published)",
        advanced=True,
        ge=1,
        le=512,
        paper="16 at 28 voxels, 32 at 40",
        presets={"fast": 16, "paper": None},
    )
    channels: int | None = option(
        None,
        "channels of the last block; none: 128 for subtomograms below 32 voxels, else 32 (as "
        "published)",
        advanced=True,
        ge=1,
        le=4096,
        paper="128 at 28 voxels, 32 at 40",
        presets={"fast": 128, "paper": None},
    )
    edge: int = setting(
        16,
        "edge to which larger subtomograms are Fourier-cropped, voxels; 0: as they are",
        0,
        ge=0,
        le=512,
    )
    domain_norm: bool = setting(
        True,
        "batch statistics of each domain are kept apart in what both share",
        False,
        advanced=True,
    )
    # how it learns
    source_epochs: int = setting(
        20, "epochs of stage 1, on the source", 20, ge=1, le=10000, words="20"
    )
    batch_size: int = setting(
        32, "source subtomograms in a batch of stage 1", 32, ge=2, le=65536, words="32"
    )
    learning_rate: float = setting(1e-3, "of Adam in stage 1", 1e-3, gt=0, le=1, words="1e-3")
    augment: Augment = setting(
        "turns",
        "change of the subtomograms in training; turns: rotations by 180 degrees about an axis, "
        "which keep the missing wedge; mirrors: in any axis, too",
        "none",
    )
    smoothing: float = setting(
        0.1,
        "of the labels: this fraction is spread over all classes",
        0.0,
        ge=0,
        lt=1,
        advanced=True,
    )
    calibrate: bool = option(
        True,
        "fit the temperature of the probabilities on labelled target volumes held out",
        advanced=True,
    )


class AlignConfig(DomainConfig):
    """Configure stage 2.1, which brings source and unlabelled target together."""

    align_epochs: int = setting(
        20, "epochs of stage 2.1, on both domains", 20, ge=1, le=10000, words="20"
    )
    align_batch: int = setting(
        32,
        "subtomograms of each domain in a batch of stage 2.1",
        128,
        ge=2,
        le=65536,
        words="128",
        advanced=True,
    )
    align_learning_rate: float = setting(
        1e-3, "of Adam in stage 2.1", 2e-4, gt=0, le=1, words="2e-4"
    )


class CoralConfig(AlignConfig):
    """Configure stage 2.1 by covariances."""

    alpha: float = option(500.0, "weight of the CORAL loss", advanced=True, ge=0, paper="500")
    squared: bool = option(
        True,
        "CORAL with the squared Frobenius norm, as published; no: the norm, as in the reference "
        "code",
        advanced=True,
    )


class ShotConfig(DomainConfig):
    """Configure the last stage, which learns from the shots."""

    adapt_epochs: int = setting(30, "epochs of the last stage", 30, ge=1, le=10000, words="30")
    adapt_learning_rate: float = setting(
        3e-4, "of Adam in the last stage", 1e-3, gt=0, le=1, words="1e-3"
    )


class PairConfig(ShotConfig):
    """Configure pairs of subtomograms, and the discriminator that tells their groups apart."""

    discriminator_epochs: int = setting(
        100, "epochs of the discriminator", 100, ge=1, le=10000, words="100"
    )
    discriminator_batch: int = setting(
        40,
        "pairs in a batch of the discriminator",
        40,
        ge=4,
        le=65536,
        words="40",
        advanced=True,
    )
    discriminator_learning_rate: float = setting(
        2e-4,
        "of Adam for the discriminator",
        2e-4,
        gt=0,
        le=1,
        words="2e-4",
        advanced=True,
    )
    pair_batch: int = setting(
        20,
        "cross-domain pairs in a batch of the last stage",
        20,
        ge=2,
        le=65536,
        words="20",
        advanced=True,
    )
    pair_draws: int | None = setting(
        None,
        "times that each shot is paired in an epoch of the last stage; none: so often that an "
        "epoch has twelve steps",
        1,
        ge=1,
        le=1000,
        words="1",
        advanced=True,
    )
    keep_statistics: bool = setting(
        False,
        "the last stage normalises with the batch statistics that the stage before it left",
        False,
        advanced=True,
    )
    gamma: float = option(
        0.2, "weight of the domain-class confusion", advanced=True, ge=0, paper="0.2 (code)"
    )


class FsftConfig(PairConfig, CoralConfig):
    """Configure all stages of FSFT, and its ablations."""

    align_learning_rate: float = setting(
        3e-4,
        "of Adam in stage 2.1, where only CORAL holds the target's own blocks",
        2e-4,
        gt=0,
        le=1,
        words="2e-4",
    )
    coral: bool = option(
        True, "stage 2.1; --no-coral leaves it out (ablation)", advanced=True, paper="yes"
    )
    adversarial: bool = option(
        False,
        "train discriminator and encoders alternately in the last stage (ablation, FSFT with GAN)",
        advanced=True,
        paper="no",
    )
    conv_discriminator: bool = option(
        True,
        "the discriminator sees the maps of block 2, too; --no-conv-discriminator: features alone "
        "(ablation)",
        advanced=True,
    )


class FadaConfig(PairConfig):
    """Configure FADA: one encoder, and a discriminator on features, trained alternately."""


class DeepCoralConfig(CoralConfig):
    """Configure Deep CORAL: one encoder, source labels and equal covariances."""


class SwdConfig(AlignConfig):
    """Configure source labels and equal distributions of random projections."""

    swd_weight: float = option(1.0, "weight of the sliced Wasserstein loss", advanced=True, ge=0)
    projections: int = option(
        256,
        "directions on which both domains are compared in each step",
        advanced=True,
        ge=1,
        le=65536,
    )
    power: float = option(2.0, "exponent p of the distance", advanced=True, ge=1, le=4)


class FineTuneConfig(ShotConfig):
    """Configure stage 1, then the shots alone."""

    adapt_epochs: int = setting(
        20,
        "epochs on the shots, each of as many subtomograms as the source has",
        50,
        ge=1,
        le=10000,
    )
    tune_batch: int = option(
        32, "shots in a batch of the last stage", advanced=True, ge=2, le=65536
    )


class SourceOnlyConfig(DomainConfig):
    """Configure stage 1 alone."""
