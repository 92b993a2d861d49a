"""Declare the options of ``cryoet run autoencoder``."""

from __future__ import annotations

from cryoet_core.plugins.config import Config, option


class AutoencoderConfig(Config):
    """Configure ``autoencoder``; defaults are those of the fast preset.

    The paper preset is the published network and schedule.
    """

    k: int = option(
        100,
        "clusters to sort into",
        ge=1,
        le=10_000,
        paper="100 to explore, the classes to compare",
    )
    restarts: int = option(
        10,
        "starts of k-means; the best is kept",
        ge=1,
        le=1000,
        paper="100 (code)",
        presets={"fast": 10, "paper": 100},
    )
    # what the network sees
    pose: bool = option(
        True,
        "move particles to the centre and rotate their principal axes to z, y, x",
        paper="optional",
    )
    smoothing: float = option(
        1.0,
        "standard deviation of a Gaussian before all else, voxels; 0: none",
        ge=0,
        le=16,
        paper="2 (code)",
        presets={"fast": 1.0, "paper": 2.0},
    )
    bin: int = option(
        2,
        "average this many voxels per axis",
        ge=1,
        le=8,
        paper="1",
        presets={"fast": 2, "paper": 1},
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
    code: int = option(32, "length of the code", advanced=True, ge=1, le=4096, paper="32")
    # training
    penalty: float = option(
        1e-4,
        "weight of the sum of a code's absolute values, the mean over subtomograms",
        advanced=True,
        ge=0,
        le=100,
        paper="1e-4, of the sum over a batch of 128 (code)",
    )
    learning_rate: float = option(1e-3, "of Adam", gt=0, le=1, paper="1e-3")
    decay: float = option(
        2e-6,
        "after t updates the learning rate is divided by 1 + this * t",
        advanced=True,
        ge=0,
        le=1,
        paper="2e-6",
    )
    batch_size: int = option(
        32,
        "subtomograms per update, all processes together",
        ge=1,
        le=8192,
        paper="128 (code)",
        presets={"fast": 32, "paper": 128},
    )
    epochs: int = option(
        30,
        "passes over the data at most",
        ge=1,
        le=100_000,
        paper="100 (code)",
        presets={"fast": 30, "paper": 100},
    )
    patience: int = option(
        5,
        "epochs without a lower loss on the tenth held out after which training ends",
        advanced=True,
        ge=1,
        paper="20 (code)",
        presets={"fast": 5, "paper": 20},
    )
