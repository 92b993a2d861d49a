"""Declare the options of ``cryoet run edss3d``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic

from cryoet_core.plugins.config import Config, option


class Edss3dConfig(Config):
    """Configure ``edss3d``; defaults are those of the fast preset.

    The paper preset is the published network and schedule.
    """

    clusters: str = option(
        "",
        "folder of a finished run of autoencoder; without it one is trained "
        "first, on "
        "--subtomograms",
    )
    keep: str = option(
        "auto",
        'clusters that are particles: "3,7:ribosome;12:proteasome" names two classes; '
        "auto: the suggested ones",
        paper="chosen by eye",
    )
    k: int = option(
        20, "clusters, where the autoencoder is trained here", ge=1, le=10_000, paper="100"
    )
    autoencoder_epochs: int | None = option(
        None,
        "passes of the autoencoder that is trained here; none: as its preset says",
        advanced=True,
        ge=1,
        paper="100 (code)",
    )
    iso: float = option(
        0.25,
        "a subtomogram's foreground is what the autoencoder draws above this fraction of the way "
        "from "
        "its median to its "
        "largest value",
        advanced=True,
        gt=0,
        lt=1,
        paper="an absolute 0.5 (code)",
    )
    # the network
    width: int = option(
        16,
        "channels of the convolutions",
        advanced=True,
        ge=2,
        le=512,
        paper="32",
        presets={"fast": 16, "paper": 32},
    )
    bin: int = option(
        2,
        "average this many voxels per axis",
        ge=1,
        le=8,
        paper="1",
        presets={"fast": 2, "paper": 1},
    )
    # training
    augment: bool = option(
        True,
        "mirror subtomograms, and vary their level and spread",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    weights: Literal["equal", "root", "balanced"] = option(
        "root",
        "of the classes' voxels: equal, or by one over (the square root of) how many there are",
        advanced=True,
        paper="equal",
        presets={"fast": "root", "paper": "equal"},
    )
    learning_rate: float = option(1e-3, "of Adam", gt=0, le=1, paper="1e-3")
    batch_size: int = option(
        16,
        "subtomograms per update, all processes together",
        ge=1,
        le=8192,
        paper="128 (code)",
        presets={"fast": 16, "paper": 128},
    )
    epochs: int = option(
        20,
        "passes over the subtomograms at most",
        ge=1,
        le=100_000,
        paper="10000 (code)",
        presets={"fast": 20, "paper": 10_000},
    )
    least_updates: int = option(
        12,
        "updates in an epoch at least: on few subtomograms an epoch is several passes",
        advanced=True,
        ge=1,
        le=100_000,
        paper="one pass",
        presets={"fast": 12, "paper": 1},
    )
    patience: int = option(
        4,
        "epochs without a lower loss on the tenth held out after which training ends",
        advanced=True,
        ge=1,
        paper="20 (code)",
        presets={"fast": 4, "paper": 20},
    )
    # what is written
    least_volume: float = option(
        0.25,
        "connected parts of less than this fraction of a training particle's volume are background",
        ge=0,
        le=100,
    )
    label_subtomograms: bool = option(True, "also write the labels of the subtomograms, as a stack")

    @pydantic.field_validator("clusters")
    @classmethod
    def _from_anywhere(cls, value: str) -> str:
        """Make the folder absolute: a resumed run may be started from another folder."""
        return str(Path(value).absolute()) if value else value
