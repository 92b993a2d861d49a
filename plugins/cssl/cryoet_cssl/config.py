"""Declare the options of the four methods, in groups that they share.

Preset ``paper`` is the published recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator, model_validator

from cryoet_core.plugins.config import Config, option

Colour = Literal["white", "ctf"]


RETIRED = {
    "epsilon": 0.05,
    "fine_tune_decay": 1e-4,
    "reg_covar": 1e-5,
    "sinkhorn": 3,
}
"""Former options, constants now, whose values old run folders still hold."""


class CsslConfig(Config):
    """What the configurations of all four methods have in common."""

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, values: Any) -> Any:
        """Leave former options out where they have the value that is now built in."""
        if not isinstance(values, Mapping):
            return values
        return {
            name: value
            for name, value in values.items()
            if name in cls.model_fields or name not in RETIRED or value != RETIRED[name]
        }


class EncoderConfig(CsslConfig):
    """Choose the network."""

    encoder: str = option(
        "cssl.rb3d", "network that turns subtomograms into features: plugin.name", paper="RB3D"
    )
    head: Literal["pool", "dense"] = option(
        "pool",
        "end of cssl.rb3d: pooled octants (256 features), or two dense layers of 1024",
        advanced=True,
        paper="not stated",
    )


class ViewConfig(CsslConfig):
    """Say how a view is drawn; see ``views.Views``."""

    crop: tuple[float, float] = option(
        (0.8, 1.0),
        "edge of the random crop, as a fraction of the box; it is resized to the box",
        advanced=True,
        paper="0.71,1 (area 0.5 to 1)",
        presets={"fast": (0.8, 1.0), "paper": (0.707, 1.0)},
    )
    crop_probability: float = option(
        0.0,
        "fraction of views that are cropped",
        advanced=True,
        ge=0,
        le=1,
        paper="0.5",
        presets={"fast": 0.0, "paper": 0.5},
    )
    affine_probability: float = option(
        1.0,
        "fraction of views that are rotated, shifted and scaled",
        advanced=True,
        ge=0,
        le=1,
        paper="0.5",
        presets={"fast": 1.0, "paper": 0.5},
    )
    full_so3: bool = option(
        True,
        "rotate to any orientation, not only about the beam",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    angle: float = option(
        180.0,
        "largest rotation about the beam in degrees, with --no-full-so3",
        advanced=True,
        ge=0,
        le=180,
        paper="45",
        presets={"fast": 180.0, "paper": 45.0},
    )
    shift: float = option(
        0.05,
        "largest shift along each axis, as a fraction of the box; 0 if your particles are centred",
        ge=0,
        le=0.5,
        paper="0.1",
        presets={"fast": 0.05, "paper": 0.1},
    )
    zoom: float = option(
        0.0,
        "largest change of size, as a fraction",
        advanced=True,
        ge=0,
        lt=1,
        paper="0.1",
        presets={"fast": 0.0, "paper": 0.1},
    )
    fill: Literal["mean", "noise"] = option(
        "mean",
        "what comes in from outside the subtomogram: its mean, or noise of its mean and standard "
        "deviation",
        advanced=True,
        paper="0",
    )
    wedge: float = option(
        1.0,
        "fraction of views seen through a missing wedge that is drawn after the rotation",
        ge=0,
        le=1,
        paper="0",
        presets={"fast": 1.0, "paper": 0.0},
    )
    wedge_jitter: float = option(
        5.0, "by how much each end of the tilt range varies, degrees", advanced=True, ge=0, le=30
    )
    noise: float = option(
        0.5,
        "largest standard deviation of the noise that is added, in standard deviations of the "
        "subtomogram",
        ge=0,
        le=10,
        paper="0",
        presets={"fast": 0.5, "paper": 0.0},
    )
    noise_colour: Colour = option(
        "white",
        "spectrum of that noise: white, or a contrast transfer function of 2 to 6 um",
        advanced=True,
    )

    @field_validator("crop")
    @classmethod
    def _ordered(cls, crop: tuple[float, float]) -> tuple[float, float]:
        if not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError("expected two fractions in order, above 0 and at most 1")
        return crop


class PretrainConfig(EncoderConfig, ViewConfig):
    """Hold the options that simclr, moco and swav share."""

    epochs: int = option(
        40,
        "passes over the subtomograms, two views each",
        ge=1,
        le=100_000,
        paper="200",
        presets={"fast": 40, "paper": 200},
    )
    batch_size: int = option(
        32,
        "subtomograms per step, all processes together",
        ge=2,
        le=65_536,
        paper="16",
        presets={"fast": 32, "paper": 16},
    )
    optimiser: Literal["adam", "lars", "larc"] = option(
        "adam", "of the pretraining", advanced=True, paper="adam"
    )
    learning_rate: float = option(1e-3, "of the pretraining", gt=0, le=10)
    weight_decay: float = option(
        1e-4, "of the pretraining", advanced=True, ge=0, le=1, paper="1e-4"
    )
    schedule: Literal["constant", "cosine"] = option(
        "cosine",
        "learning rate over the epochs",
        advanced=True,
        presets={"fast": "cosine", "paper": "constant"},
    )
    growth: float = option(
        0.5,
        "fraction of the pretraining in which crop, rotation, shift and scale grow from a tenth to "
        "all",
        advanced=True,
        ge=0,
        le=1,
        paper="0",
        presets={"fast": 0.5, "paper": 0.0},
    )
    projection: int = option(
        128, "length of the vectors that are compared", advanced=True, ge=2, le=4096, paper="128"
    )
    projection_norm: bool = option(
        True,
        "batch normalisation in the projection head, which is not kept",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )


class ClusterConfig(CsslConfig):
    """Say how features become clusters in a run without ``label_fraction``."""

    k_min: int = option(2, "smallest number of clusters to consider", ge=1, le=200)
    k_max: int = option(15, "largest number of clusters to consider", ge=1, le=200)
    dimensions: int = option(
        16, "principal components that are clustered", advanced=True, ge=1, le=128
    )
    restarts: int = option(5, "starts of each mixture", advanced=True, ge=1, le=100)


class FineTuneConfig(CsslConfig):
    """Say how a classifier learns from labels."""

    fine_tune_epochs: int = option(
        30,
        "passes over the labelled subtomograms",
        ge=1,
        le=100_000,
        paper="50",
        presets={"fast": 30, "paper": 50},
    )
    fine_tune_batch: int = option(
        32,
        "subtomograms per step of fine-tuning",
        advanced=True,
        ge=1,
        le=65_536,
        paper="16",
        presets={"fast": 32, "paper": 16},
    )
    fine_tune_optimiser: Literal["adam", "sgd"] = option(
        "adam",
        "of fine-tuning; sgd has momentum 0.9",
        advanced=True,
        paper="sgd",
        presets={"fast": "adam", "paper": "sgd"},
    )
    fine_tune_rate: float | None = option(
        None,
        "learning rate of fine-tuning, falling along a cosine; none: 1e-3 from random "
        "weights, 5e-5 from others",
        gt=0,
        le=10,
        paper="5e-4; 1e-4 for 25 and 50 % of real labels",
        presets={"fast": None, "paper": 5e-4},
    )
    fine_tune_views: bool = option(
        False,
        "show the labelled subtomograms as random views too",
        advanced=True,
        paper="not stated",
    )
    same_steps: bool = option(
        True,
        "as many steps for any fraction of the labels as for all of them",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    freeze_encoder: bool = option(False, "train the classifier alone")
    head_start: Literal["auto", "probe", "random"] = option(
        "auto",
        "first weights of the classifier: a linear probe's, or random; auto: a probe's on "
        "a pretrained encoder",
        advanced=True,
        paper="random",
        presets={"fast": "auto", "paper": "random"},
    )


FRACTION = (
    "fraction of the labels of the training part to learn from; drawn class by class, smaller "
    "fractions inside larger"
)


class SelfSupervisedConfig(PretrainConfig, ClusterConfig, FineTuneConfig):
    """Configure a run that ends in a classifier with ``label_fraction``, else in clusters."""

    label_fraction: float | None = option(
        None, FRACTION + "; none: pretrain and sort, labels unseen", gt=0, le=1
    )


class SimclrConfig(SelfSupervisedConfig):
    """Configure ``simclr``."""

    optimiser: Literal["adam", "lars", "larc"] = option(
        "adam",
        "of the pretraining",
        advanced=True,
        paper="lars (SimCLR's)",
        presets={"fast": "adam", "paper": "lars"},
    )
    learning_rate: float = option(
        1e-3,
        "of the pretraining",
        gt=0,
        le=10,
        paper="0.3 x batch / 256 (SimCLR's)",
        presets={"fast": 1e-3, "paper": 0.01875},
    )
    weight_decay: float = option(
        1e-4,
        "of the pretraining",
        advanced=True,
        ge=0,
        le=1,
        paper="1e-6 (SimCLR's)",
        presets={"fast": 1e-4, "paper": 1e-6},
    )
    temperature: float = option(
        0.2,
        "divisor of similarities",
        advanced=True,
        gt=0,
        le=10,
        paper="0.1 (SimCLR's)",
        presets={"fast": 0.2, "paper": 0.1},
    )


class MocoConfig(SelfSupervisedConfig):
    """Configure ``moco``."""

    learning_rate: float = option(
        1e-3, "of the pretraining", gt=0, le=10, paper="1e-4", presets={"fast": 1e-3, "paper": 1e-4}
    )
    temperature: float = option(
        0.2, "divisor of similarities", advanced=True, gt=0, le=10, paper="0.2"
    )
    queue: int | None = option(
        None,
        "keys of earlier batches that serve as negatives; none: a quarter of the subtomograms",
        advanced=True,
        ge=1,
        le=1_000_000,
        paper="128; 64 on real data",
        presets={"fast": None, "paper": 128},
    )
    momentum: float | None = option(
        None,
        "fraction of itself that the key encoder keeps in each step; none: 1 - 40 / steps, the "
        "published fraction of "
        "the run",
        advanced=True,
        ge=0,
        le=1,
        paper="0.999",
        presets={"fast": None, "paper": 0.999},
    )
    ramp: bool = option(
        True,
        "let the momentum grow from 0 over the run, and the queue count from 0.6 of it on",
        paper="no",
        presets={"fast": True, "paper": False},
        advanced=True,
    )
    symmetric: bool = option(
        True,
        "both views are queries, and the other keys of their batch are negatives too",
        paper="no",
        presets={"fast": True, "paper": False},
        advanced=True,
    )


class SwavConfig(SelfSupervisedConfig):
    """Configure ``swav``."""

    optimiser: Literal["adam", "lars", "larc"] = option(
        "adam",
        "of the pretraining",
        advanced=True,
        paper="larc (SwAV's)",
        presets={"fast": "adam", "paper": "larc"},
    )
    learning_rate: float = option(
        1e-3,
        "of the pretraining",
        gt=0,
        le=10,
        paper="4.8 x batch / 4096 (SwAV's)",
        presets={"fast": 1e-3, "paper": 0.01875},
    )
    weight_decay: float = option(
        1e-4,
        "of the pretraining",
        advanced=True,
        ge=0,
        le=1,
        paper="1e-6 (SwAV's)",
        presets={"fast": 1e-4, "paper": 1e-6},
    )
    temperature: float = option(
        0.1, "divisor of prototype scores", advanced=True, gt=0, le=10, paper="0.1"
    )
    prototypes: int = option(
        30,
        "number of prototypes, a few for each class to expect",
        advanced=True,
        ge=2,
        le=100_000,
        paper="3000 (SwAV's), which so few subtomograms cannot fill",
        presets={"fast": 30, "paper": 60},
    )
    queue: int = option(
        0,
        "earlier vectors that take part in the balancing; 0: none",
        advanced=True,
        ge=0,
        le=1_000_000,
        paper="optional",
        presets={"fast": 0, "paper": 256},
    )
    warm_up: float = option(
        0.6,
        "fraction of the pretraining that tells subtomograms apart (NT-Xent) before there are "
        "prototypes",
        ge=0,
        le=1,
        paper="0",
        presets={"fast": 0.6, "paper": 0.0},
        advanced=True,
    )
    freeze: int = option(
        10,
        "first steps with prototypes in which these stay",
        ge=0,
        le=1_000_000,
        paper="313 (SwAV's)",
        presets={"fast": 10, "paper": 313},
        advanced=True,
    )


class SupervisedConfig(EncoderConfig, FineTuneConfig, ViewConfig):
    """Configure ``supervised``."""

    weights: str | None = option(
        None, "folder of a finished run whose encoder to start from; none: random weights"
    )
    label_fraction: float = option(1.0, FRACTION, gt=0, le=1)
