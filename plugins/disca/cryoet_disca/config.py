"""The options of ``cryoet run disca``."""

from __future__ import annotations

from typing import Literal

from cryoet_core.plugins.config import Config, option


class DiscaConfig(Config):
    """Defaults are those of the fast preset; the paper preset is the published network and
    schedule.
    """

    k_min: int = option(
        2,
        "smallest number of clusters in the rounds; the refinement finds its own",
        ge=1,
        le=200,
        paper="number of classes, given",
    )
    k_max: int = option(
        15,
        "largest number of clusters in the rounds; --components bounds the refinement",
        ge=1,
        le=200,
        paper="number of classes, given",
    )
    iterations: int = option(
        3,
        "rounds of clustering and training",
        ge=1,
        le=1000,
        paper="20",
        presets={"fast": 3, "paper": 20},
    )
    init: Literal["invariants", "random"] = option(
        "invariants",
        "what the first clustering looks at: rotation-invariant descriptors, or features of the "
        "untrained network",
        advanced=True,
        paper="random",
        presets={"fast": "invariants", "paper": "random"},
    )
    join_invariants: bool = option(
        True,
        "cluster the network's features together with the rotation-invariant descriptors",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
    refine: bool = option(
        True,
        "finish with a mixture of densities in unknown poses, seeded by particles far apart in "
        "feature space",
        paper="no",
        presets={"fast": True, "paper": False},
    )
    components: int = option(
        15, "densities that the refinement starts with", advanced=True, ge=1, le=200
    )
    refine_sample: int = option(
        4000,
        "subtomograms that the refinement learns from, at most; all are labelled",
        advanced=True,
        ge=10,
    )
    max_shift: float = option(
        6.0,
        "how far a particle may lie from the box centre, voxels; 0: all are centred",
        ge=0,
        le=32,
    )
    mask_diameter: float = option(
        0.0,
        "what lies outside this diameter (Å) about the particle is ignored in the refinement; 0: "
        "the box",
        ge=0,
    )
    empty: bool = option(True, "the refinement may call subtomograms empty", advanced=True)
    align_averages: bool = option(
        True,
        "align the particles of each class before averaging them; without refinement by a search "
        "of its own",
        advanced=True,
        presets={"fast": True, "paper": False},
    )
    # the network
    encoder: str | None = option(
        None,
        "network of another plugin instead of our own, which the next four options shape: "
        "plugin.name",
    )
    weights: str | None = option(
        None,
        "folder of a finished run whose encoder to start from; the first clustering then looks at "
        "it too",
    )
    width: int = option(
        8,
        "channels of the first block; each further block has a quarter more",
        advanced=True,
        ge=4,
        le=512,
        paper="64",
        presets={"fast": 8, "paper": 64},
    )
    blocks: int = option(
        5,
        "convolution blocks",
        advanced=True,
        ge=1,
        le=20,
        paper="10",
        presets={"fast": 5, "paper": 10},
    )
    bin: int = option(
        2,
        "average this many voxels per axis before the network",
        ge=1,
        le=8,
        paper="1",
        presets={"fast": 2, "paper": 1},
    )
    features: int = option(
        128,
        "length of the feature vector",
        advanced=True,
        ge=8,
        le=8192,
        paper="1024",
        presets={"fast": 128, "paper": 1024},
    )
    # clustering
    dimensions: int = option(
        16,
        "principal components that are clustered",
        advanced=True,
        ge=2,
        le=128,
        paper="16 (code)",
    )
    restarts: int = option(5, "starts of each mixture", advanced=True, ge=1, le=100, paper="5")
    reg_covar: float = option(
        1e-5,
        "added to covariances, as a fraction of the mean variance",
        advanced=True,
        gt=0,
        le=1,
        paper="1e-5",
    )
    # training
    loss: Literal["cross_entropy", "hinge"] = option(
        "cross_entropy",
        "on logits with smoothed labels, or the code's categorical hinge on probabilities",
        advanced=True,
        paper="hinge (code)",
        presets={"fast": "cross_entropy", "paper": "hinge"},
    )
    learning_rate: float = option(
        1e-3,
        "of the network in the first round (NAdam)",
        gt=0,
        le=1,
        paper="1e-5",
        presets={"fast": 1e-3, "paper": 1e-5},
    )
    decay: float = option(
        0.95, "factor on the learning rate per round", advanced=True, gt=0, le=1, paper="0.95"
    )
    smoothing: float = option(
        0.2,
        "label smoothing before the first round; times 0.9 each round",
        advanced=True,
        ge=0,
        lt=1,
        paper="0.2",
    )
    batch_size: int = option(
        64, "subtomograms per training step, all processes together", ge=2, le=8192, paper="64"
    )
    head_epochs: int = option(
        10,
        "epochs that a new classification head is trained alone",
        advanced=True,
        ge=0,
        le=1000,
        paper="10",
    )
    head_learning_rate: float = option(
        1e-4,
        "learning rate of a new head alone (NAdam)",
        advanced=True,
        gt=0,
        le=1,
        paper="1e-4",
        presets={"fast": 1e-2, "paper": 1e-4},
    )
    unchanged: float = option(
        0.999,
        "fraction of unchanged labels at which the rounds stop",
        advanced=True,
        gt=0,
        le=1,
        paper="0.999",
    )
