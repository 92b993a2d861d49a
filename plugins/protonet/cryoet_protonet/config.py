"""Declare the options of ``cryoet run protonet`` and ``cryoet run protonet_ce``."""

from __future__ import annotations

from typing import Literal

from cryoet_core.plugins.config import Config, option


class ProtoNetConfig(Config):
    """Configure ``protonet``; defaults are those of the fast preset.

    The paper preset is the published network and schedule.
    """

    train_classes: list[str] = option(
        [],
        "classes that episodes are drawn from in training, a,b,c; empty: all but --unseen, drawn "
        "by the seed",
    )
    unseen: int | None = option(
        None,
        "classes kept out of training where --train-classes is not given; none: two fifths of them",
        ge=0,
        le=1000,
        paper="2 of 5, 3 of 7, 3 of 6",
    )
    way: int = option(2, "classes in an episode", ge=2, le=100, paper="2 or 3; code: 5")
    shot: int = option(
        5, "support volumes of each class in a training episode", ge=1, le=100, paper="5"
    )
    query: int = option(
        15,
        "query volumes of each class in an episode, fewer where a class is small",
        ge=1,
        le=1000,
        paper="15",
    )
    # training
    epochs: int = option(
        8, "epochs at most", ge=1, le=10_000, paper="100", presets={"fast": 8, "paper": 100}
    )
    episodes_per_epoch: int = option(
        100,
        "training episodes in an epoch",
        ge=1,
        le=100_000,
        paper="25 (code)",
        presets={"fast": 100, "paper": 25},
    )
    episodes_per_step: int = option(
        10,
        "episodes in one forward pass and optimiser step",
        advanced=True,
        ge=1,
        le=1000,
        paper="1",
        presets={"fast": 10, "paper": 1},
    )
    pool: int = option(
        60,
        "volumes that a step encodes once, for all its episodes to share (more where an "
        "episode needs more); 0: "
        "each episode encodes its "
        "own",
        advanced=True,
        ge=0,
        le=100_000,
        paper="0",
        presets={"fast": 60, "paper": 0},
    )
    patience: int = option(
        20,
        "epochs without a better validation accuracy before training stops",
        advanced=True,
        ge=1,
        paper="20",
    )
    learning_rate: float = option(1e-3, "of Adam in the first epoch", gt=0, le=1, paper="1e-3")
    halve_every: int = option(
        3,
        "epochs after which the learning rate is halved",
        advanced=True,
        ge=1,
        paper="20",
        presets={"fast": 3, "paper": 20},
    )
    held_out: float = option(
        0.2,
        "fraction of each training class that is not trained on: it chooses the epoch and sets "
        "the scales",
        advanced=True,
        gt=0,
        lt=1,
        paper="none",
    )
    augment: Literal["none", "flips", "rotations"] = option(
        "flips",
        "change training volumes at random: flips keep the missing wedge in place, rotations of "
        "SO(3) rotate it",
        advanced=True,
        paper="none",
        presets={"fast": "flips", "paper": "none"},
    )
    # the embedding
    encoder: str = option(
        "protonet.protonet3d", "encoder to train, plugin.name", pattern=r"\w+\.\w+"
    )
    weights: str | None = option(
        None, "finished run whose trained encoder is the start, a folder; none: fresh weights"
    )
    width: int = option(
        16,
        "channels of each block of protonet.protonet3d",
        advanced=True,
        ge=4,
        le=512,
        paper="64",
        presets={"fast": 16, "paper": 64},
    )
    blocks: int | None = option(
        None,
        "convolution blocks of protonet.protonet3d; none: 4, or as many as the subtomogram can be "
        "halved",
        advanced=True,
        ge=1,
        le=6,
        paper="4",
    )
    bin: int = option(
        2,
        "average this many voxels per axis before protonet.protonet3d",
        ge=1,
        le=8,
        paper="1",
        presets={"fast": 2, "paper": 1},
    )
    join_invariants: bool = option(
        True,
        "join the network's features with rotation-invariant descriptors, whitened within the "
        "training classes",
        paper="no",
        presets={"fast": True, "paper": False},
    )
    network_share: float = option(
        0.1,
        "weight of the network's features beside the descriptors: fraction of a class's variance",
        advanced=True,
        ge=0,
        le=100,
    )
    max_shift: float = option(
        6.0,
        "how far a particle may lie from the box centre, voxels; 0: all are centred (for the "
        "descriptors)",
        ge=0,
        le=32,
    )
    # evaluation and labelling
    evaluation_episodes: int = option(
        1000,
        "episodes of unseen classes for each number of shots; 0: none",
        advanced=True,
        ge=0,
        le=1_000_000,
        paper="100",
        presets={"fast": 1000, "paper": 100},
    )
    evaluation_shots: list[int] = option(
        [1, 5], "support volumes of each class in those episodes", advanced=True, paper="5,1"
    )
    reject: float = option(
        0.05,
        "fraction of the members of known classes that may be called none of these; 0: never say "
        "so",
        ge=0,
        lt=1,
    )


class ProtoNetCEConfig(ProtoNetConfig):
    """Configure ``protonet_ce``: as ``protonet``, with the second stage."""

    attention_epochs: int = option(
        8,
        "epochs of the second stage at most",
        advanced=True,
        ge=1,
        le=10_000,
        paper="100",
        presets={"fast": 8, "paper": 100},
    )
    attention_weight: float = option(
        2.0,
        "weight of the divergence of the attention from its target",
        advanced=True,
        ge=0,
        paper="2",
    )
    freeze_encoder: bool = option(
        True,
        "the second stage trains the attention alone, on embeddings that are computed once",
        advanced=True,
        paper="no",
        presets={"fast": True, "paper": False},
    )
