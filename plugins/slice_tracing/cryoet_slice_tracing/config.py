"""The options of ``cryoet run slice_tracing``."""

from __future__ import annotations

from cryoet_core.plugins.config import Config, option


class SliceTracingConfig(Config):
    """Lengths are in Å or shares of the diameter, so they hold for any voxel size."""

    diameter: float = option(
        0.0, "diameter of the particle, Å; needed", ge=0, le=5000, paper="box of the particle"
    )
    voxels_across: float = option(
        10.0, "voxels per diameter that tomograms are resampled to", ge=4, le=64
    )
    # the detector
    width: int = option(
        16, "channels of the first level", advanced=True, ge=8, le=256, multiple_of=8
    )
    iterations: int = option(
        500, "training steps", ge=1, le=1_000_000, paper="200 epochs at most, early stop"
    )
    learning_rate: float = option(
        1e-3,
        "of Adam; a tenth after each third of the steps",
        advanced=True,
        gt=0,
        le=1,
        paper="1e-4",
    )
    batch_size: int = option(16, "crops of slices in a step", ge=2, le=1024, paper="4 to 6 slices")
    crop: int = option(64, "edge of a crop, voxels", advanced=True, ge=16, le=1024, multiple_of=8)
    labelled_depth: float = option(
        0.6,
        "fraction of the radius above and below a centre in which slices show the particle",
        advanced=True,
        gt=0,
        le=1,
    )
    # from slices to particles
    confidence: float = option(
        0.25, "lowest confidence of a detection that is linked", gt=0, lt=1, paper="0.25"
    )
    search_range: float = option(
        0.25,
        "farthest step of a trace from slice to slice, as a fraction of the diameter",
        advanced=True,
        gt=0,
        le=2,
        paper="0.25",
    )
    memory: int = option(
        1, "slices that a trace may miss", advanced=True, ge=0, le=20, paper="0 to 3"
    )
    min_length: float = option(
        0.3,
        "shortest trace, as a fraction of the diameter",
        gt=0,
        le=2,
        paper="5 boxes, whatever their size",
    )
    max_length: float = option(
        1.5,
        "longest trace, as a fraction of the diameter; a longer one is split into equal parts",
        gt=0,
        le=10,
        paper="none",
    )
