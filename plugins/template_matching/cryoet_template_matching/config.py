"""The options of ``cryoet run template_matching``."""

from __future__ import annotations

import os
from typing import Literal

import pydantic

from cryoet_core.plugins.config import Config, option

BALL = "ball"


class TemplateMatchingConfig(Config):
    """Lengths are in Å, so they hold for any voxel size."""

    template: str = option(
        "", "map (MRC, EM) or model (PDB, mmCIF) of the particle, or ball: a solid one; needed"
    )
    template_contrast: Literal["bright", "dark"] = option(
        "bright", "of the protein in the template map"
    )
    template_voxel_size: float | None = option(
        None, "of the map, Å; none: what its header says", gt=0, le=1000
    )
    template_centre: Literal["mass", "box"] = option(
        "mass",
        "what of the template a pick stands for: its centre of mass, or the middle of the map's "
        "box",
    )
    diameter: float | None = option(
        None,
        "of the sphere that is compared, Å; none: that of the template",
        gt=0,
        le=5000,
        paper="box",
    )
    symmetry: str = option(
        "C1",
        "of the template: C<n> or D<n> about its z axis, T, O or I",
        pattern=r"[CD][1-9]\d*|[TOI]",
    )
    angular_step: float = option(
        15.0,
        "between rotations, degrees",
        ge=3,
        le=90,
        paper="30 (EMAN2), 10 (paper 002)",
        presets={"fast": 15.0, "paper": 10.0},
    )
    search_voxel_size: float | Literal["auto", "data"] = option(
        "auto",
        "voxels of the search, Å; auto: as coarse as the angular step allows; data: those of the "
        "tomogram",
        advanced=True,
        paper="data",
        presets={"fast": "auto", "paper": "data"},
    )
    refine: bool = option(
        True,
        "improve rotation and position at each candidate in finer steps",
        paper="no",
        presets={"fast": True, "paper": False},
    )
    # what the tomogram has seen
    wedge: bool = option(
        True, "take from the template what the tilt range has not seen", paper="no (EMAN2)"
    )
    ctf: Literal["none", "modulated", "flipped"] = option(
        "none",
        "contrast transfer of the tomogram: corrected or ignored, as recorded, or with phases "
        "flipped",
    )
    defocus: float = option(4.0, "underfocus for --ctf, micrometres", gt=0, le=30)
    voltage: float = option(300.0, "of the microscope for --ctf, kV", ge=60, le=1000)
    cs: float = option(2.7, "spherical aberration for --ctf, mm", ge=0, le=10)
    amplitude_contrast: float = option(0.07, "for --ctf", advanced=True, ge=0, lt=1)
    # filters of tomogram and template alike
    lowpass: float = option(
        0.0, "leave out detail finer than this, Å; 0: none", ge=0, le=1000, paper="0.4 / voxel"
    )
    highpass: float = option(
        0.0, "leave out what is coarser than this, Å; 0: none", advanced=True, ge=0, le=10_000
    )
    whiten: bool = option(
        False, "give every frequency of the tomogram the same power", advanced=True
    )
    clip: float = option(
        10.0,
        "standard deviations at which voxels are cut off, against gold",
        advanced=True,
        ge=1,
        le=1000,
        paper="3",
    )
    # picking
    threshold: float | Literal["auto"] = option(
        "auto",
        "lowest correlation of a pick, -1 to 1; auto: what noise exceeds --false-positives times",
        paper="10 sd",
    )
    false_positives: float = option(
        1.0, "picks of mere noise in a tomogram, for --threshold auto", gt=0, le=10_000
    )
    spacing: float = option(
        0.6, "picks are at least this fraction of the diameter apart", gt=0, le=10, paper="0.5 box"
    )
    limit: int | None = option(None, "the best so many picks of each tomogram", ge=1, paper="500")

    @pydantic.field_validator("template")
    @classmethod
    def _from_anywhere(cls, value: str) -> str:
        return value if value in ("", BALL) else os.path.abspath(os.path.expanduser(value))
