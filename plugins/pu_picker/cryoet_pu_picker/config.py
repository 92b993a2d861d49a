"""The options of ``cryoet run pu_picker``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from cryoet_core.plugins.config import Config, option


class PUPickerConfig(Config):
    """Defaults are those of the fast preset; lengths are in Å, so they hold for any voxel size."""

    diameter: str = option(
        "",
        "particle diameter in Å; of several species: ribosome=250,proteasome=150",
        paper="box of the particle",
    )
    prior: str = option(
        "auto",
        "fraction of voxels in particles, labelled or not: 0.1, or ribosome=0.1,proteasome=0.02; "
        "auto: estimated",
        advanced=True,
        paper="0.6 (EMPIAR-10304), 0.1 (EMPIAR-10499)",
    )
    copies: str = option(
        "",
        "expected particles in a tomogram, for --prior auto: 150, or ribosome=150,proteasome=40; "
        "else counted",
    )
    variant: Literal["full", "no-contrast", "no-pu"] = option(
        "full",
        "no-contrast: without the contrastive terms; no-pu: everything unlabelled is negative",
        advanced=True,
        paper="full",
    )
    # the network
    backbone: Literal["unet", "resnet"] = option(
        "unet", "of the 2-D part", advanced=True, paper="both (code)"
    )
    width: int = option(
        16,
        "channels of the first level",
        advanced=True,
        ge=4,
        le=256,
        paper="32 (unet), 64 (resnet)",
        presets={"fast": 16, "paper": 32},
    )
    levels: int = option(
        3,
        "resolutions of the U-Net",
        advanced=True,
        ge=1,
        le=6,
        paper="4",
        presets={"fast": 3, "paper": 4},
    )
    features: int = option(
        16,
        "channels of the 3-D part and of the contrast",
        advanced=True,
        ge=4,
        le=256,
        paper="32",
        presets={"fast": 16, "paper": 32},
    )
    network_voxel_size: float | Literal["auto", "data"] = option(
        "auto",
        "voxels that the network sees, Å; auto: --voxels-across of them make a diameter; data: "
        "those of the tomogram",
        advanced=True,
        paper="data",
        presets={"fast": "auto", "paper": "data"},
    )
    voxels_across: float = option(
        10.0, "voxels of the network per (smallest) diameter", advanced=True, ge=4, le=64
    )
    bands: bool = option(
        True,
        "show the network the voxels smoothed in 3-D as well, at three widths",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    texture: bool = option(
        True,
        "show the network the local power of two octaves of detail as well, which is the same in "
        "any orientation; "
        "needs --bands",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    blob_prior: bool = option(
        True,
        "start from a linear filter of the labels, drawn to a ball of the diameter: the network "
        "learns what else tells "
        "particles apart",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    clip: float = option(
        4.0,
        "standard deviations at which voxels are cut off",
        advanced=True,
        gt=0,
        le=100,
        paper="-2.5 to 2 (code)",
    )
    # training
    iterations: int = option(600, "training steps", ge=1, le=1_000_000, paper="600")
    learning_rate: float = option(
        1e-3, "of Adam, at the start", advanced=True, gt=0, le=1, paper="1e-3"
    )
    schedule: Literal["cosine", "steps"] = option(
        "cosine",
        "of the learning rate: down to 0 along a cosine, or a tenth after each third of the steps",
        advanced=True,
        paper="steps",
        presets={"fast": "cosine", "paper": "steps"},
    )
    pairs: int = option(1, "pairs of crops in a step", advanced=True, ge=1, le=64, paper="1")
    crop: int = option(
        32,
        "edge of a crop in y and x, voxels",
        advanced=True,
        ge=8,
        le=1024,
        multiple_of=2,
        paper="64",
        presets={"fast": 32, "paper": 64},
    )
    crop_depth: int = option(
        11,
        "slices of a crop: more than are joined, so that most are learnt from with all their "
        "neighbours",
        advanced=True,
        ge=1,
        le=256,
        paper="5",
        presets={"fast": 11, "paper": 5},
    )
    elsewhere: float = option(
        0.5,
        "fraction of second crops that are drawn anywhere, not at labels",
        advanced=True,
        ge=0,
        le=1,
        paper="0 (code)",
        presets={"fast": 0.5, "paper": 0.0},
    )
    augment: bool = option(
        True,
        "turn crops over and by 90 degrees about the beam",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    promote: float = option(
        0.5,
        "fraction of the particles without a label that become labels before training, where "
        "--copies "
        "is given: those "
        "that a linear filter of the labels likes best, if it can tell them from others; 0: none",
        ge=0,
        le=1,
        paper="0",
        presets={"fast": 0.5, "paper": 0.0},
    )
    noise: float = option(
        1.0,
        "standard deviation of white noise that is added to crops at first, less and less of it to "
        "the end, "
        "so that few labels "
        "are not learnt by heart",
        advanced=True,
        ge=0,
        le=10,
        paper="0",
        presets={"fast": 1.0, "paper": 0.0},
    )
    target_width: float = option(
        0.1,
        "standard deviation of the soft target as a fraction of the diameter",
        advanced=True,
        gt=0,
        le=0.5,
        paper="0.09 (code)",
    )
    # the objective
    scale_risk: bool = option(
        True,
        "divide the risk by the prior, so that its weight against the other terms does not depend "
        "on it",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    memory: float = option(
        0.98,
        "weight of the past in the means that decide whether the risk of unlabelled voxels counts; "
        "0: each step alone",
        advanced=True,
        ge=0,
        lt=1,
        paper="0",
        presets={"fast": 0.98, "paper": 0.0},
    )
    temperature: float = option(
        0.07, "of the contrast", advanced=True, gt=0, le=10, paper="0.07 (10304), 0.02 (10499)"
    )
    lambda1: float = option(
        0.0,
        "weight of the contrast; 0: none, which finds more in what was measured",
        ge=0,
        le=1000,
        paper="0.1",
        presets={"fast": 0.0, "paper": 0.1},
    )
    lambda2: float = option(
        0.5,
        "weight of the unsupervised contrast within it",
        advanced=True,
        ge=0,
        le=1000,
        paper="0.5",
    )
    lambda3: float = option(
        0.1, "weight of the consistency of two views", advanced=True, ge=0, le=1000, paper="0.1"
    )
    anchors: int = option(
        256,
        "unlabelled voxels that the unsupervised contrast starts from in a step; 0: all",
        advanced=True,
        ge=0,
        paper="all",
        presets={"fast": 256, "paper": 0},
    )
    # picking
    threshold: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = option(
        "auto",
        "lowest score of a pick; auto: what parts the peaks of the training tomograms, or leaves "
        "--copies of them; "
        "half of that in other tomograms while fewer are found",
        paper="0.25",
        presets={"fast": "auto", "paper": 0.25},
    )
    likeness: bool = option(
        True,
        "score picks by the likeness of their features to those of the labels too, where the "
        "contrast shaped them",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    turns: bool = option(
        True,
        "mean of the heat maps of a tomogram as it is and rotated by 180 degrees about each axis",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    spacing: float = option(
        0.6,
        "picks are at least this fraction of the diameter apart",
        gt=0,
        le=10,
        paper="window of 3 voxels (code)",
    )

    @pydantic.field_validator("diameter", "prior", "copies", mode="before")
    @classmethod
    def _numbers_as_text(cls, value: Any) -> Any:
        return (
            f"{value:g}"
            if isinstance(value, (int, float)) and not isinstance(value, bool)
            else value
        )
