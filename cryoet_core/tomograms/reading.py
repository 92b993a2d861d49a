"""What the user says of tomograms, what their files say, and one tomogram made of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms.contrast import sign_at_picks
from cryoet_core.tomograms.tomogram import Tomogram
from cryoet_core.tomograms.volume import SAME_VOXELS, Mask, Region, Volume

Contrast: TypeAlias = Literal["dark", "bright"]
SIGNS = {"dark": -1, "bright": 1}


@dataclass(frozen=True)
class TomogramOptions:
    """What the user says of tomograms that their files do not.

    Attributes
    ----------
    picks : tuple of Path
        Files with known centres.
    voxel_size : float or None
        Å; of an image with several resolutions it chooses one.
    contrast : {"dark", "bright"} or None
        How protein looks.
    tilt_range : (float, float) or None
        Lowest and highest tilt in degrees.
    default_contrast : {"dark", "bright"} or None
        Taken, with a note, where nothing else says it.
    axes : str or None
        The axes of the volume as they lie in the file, slowest first ("yzx": depth is the middle
        one).
    """

    picks: tuple[Path, ...] = ()
    voxel_size: float | None = None
    contrast: Contrast | None = None
    tilt_range: tuple[float, float] | None = None
    default_contrast: Contrast | None = None
    axes: str | None = None

    def refuse_nonsense(self) -> None:
        """Raise UserError for a value out of range; the message names the argument."""
        for name, value in (
            ("contrast", self.contrast),
            ("default_contrast", self.default_contrast),
        ):
            if value is not None and value not in SIGNS:
                raise UserError(f"`{name}` {value}: expected dark or bright (how protein looks)")
        if self.voxel_size is not None and not 0 < self.voxel_size < float("inf"):
            raise UserError(f"`voxel_size` {self.voxel_size}: expected a number of Å above 0")
        tilt = self.tilt_range
        if tilt is not None and not -90 <= tilt[0] < tilt[1] <= 90:
            raise UserError(
                f"`tilt_range` {tilt[0]:g} {tilt[1]:g}: expected rising degrees within -90 to 90"
            )
        if self.axes is not None and sorted(self.axes) != ["x", "y", "z"]:
            raise UserError(
                f"`axes` {self.axes}: expected an order of z, y and x, slowest first, such as zyx "
                "or yzx"
            )


@dataclass(frozen=True)
class Draft:
    """A tomogram as its file has it, before what the user says completes it.

    Attributes
    ----------
    name : str
        The name of the tomogram.
    volume : Volume
        The density, as it stands in the file.
    where : str
        The file, for messages.
    voxel_size : float or None
        Å, None where the file does not say it.
    reason : str
        Why there is no voxel size.
    sign : int or None
        Density sign, None where the file does not say it.
    tilt_range : (float, float) or None
        Lowest and highest tilt in degrees.
    picks : Picks or None
        Picks in it, None where nothing is known of any.
    masks : mapping of str to Mask
        Ground truth by voxel.
    attributes : mapping
        What else the file says.
    notes : tuple of str
        What was assumed.
    ours : bool
        It comes from a store, whose facts are not to be overridden.
    pick_files : tuple of Path
        Files of picks named beside it in a manifest or project.
    reading : TomogramOptions
        What is said of this one: by the user, and in the row of a manifest.
    """

    name: str
    volume: Volume
    where: str
    voxel_size: float | None = None
    reason: str = "the file does not say it"
    sign: int | None = None
    tilt_range: tuple[float, float] | None = None
    picks: Picks | None = None
    masks: Mapping[str, Mask] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ours: bool = False
    pick_files: tuple[Path, ...] = ()
    reading: TomogramOptions = field(default_factory=TomogramOptions)

    def noted(self, *notes: str) -> Draft:
        """Return the draft with further notes."""
        return replace(self, notes=(*self.notes, *notes))


Opener: TypeAlias = Callable[[Path, TomogramOptions], list[Draft]]
"""Opens what stands in a project or a manifest: ``sources.drafts_of``."""


@dataclass(frozen=True)
class TurnedVolume:
    """A volume whose axes lie in another order in the file.

    Attributes
    ----------
    source : Volume
        The volume of the file.
    order : (int, int, int)
        For z, y and x, which axis of ``source`` it is.
    """

    source: Volume
    order: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        d, h, w = (self.source.shape[axis] for axis in self.order)
        return d, h, w

    def read(self, region: Region) -> np.ndarray:
        """Return a region (z, y, x), float32."""
        parts = [slice(None)] * 3
        for part, axis in zip(region, self.order, strict=True):
            parts[axis] = part
        values = self.source.read((parts[0], parts[1], parts[2]))
        return np.ascontiguousarray(values.transpose(self.order))


def with_geometry(draft: Draft) -> Draft:
    """Return the draft with its axes in order and a voxel size. UserError where nobody says it."""
    said = draft.reading
    if said.axes is not None and said.axes != "zyx":
        if draft.ours:
            raise UserError(
                f"{draft.where}: a store of tomograms, whose axes are z, y, x; leave `axes` out"
            )
        order = (said.axes.index("z"), said.axes.index("y"), said.axes.index("x"))
        draft = replace(draft, volume=TurnedVolume(draft.volume, order)).noted(
            f"axes {said.axes} as given"
        )
    if 1 in draft.volume.shape:
        found = " x ".join(str(size) for size in draft.volume.shape)
        raise UserError(
            f"{draft.where}: {found} (z, y, x) voxels, a 2-D image; expected a tomogram"
        )
    size = said.voxel_size or draft.voxel_size
    if size is None:
        raise UserError(
            f"{draft.where}: voxel size unknown ({_without(draft.reason, draft.where)}); give "
            "`voxel_size`"
        )
    if draft.voxel_size and abs(size / draft.voxel_size - 1) > SAME_VOXELS:
        if draft.ours:
            raise UserError(
                f"{draft.where}: voxels of {draft.voxel_size:g} Å, but `voxel_size` says {size:g}; "
                "expected the same; "
                "leave `voxel_size` out, or import the tomogram again"
            )
        draft = draft.noted(f"voxel size {size:g} Å as given; the file says {draft.voxel_size:g} Å")
    elif draft.voxel_size:
        size = draft.voxel_size
    return replace(draft, voxel_size=size, tilt_range=said.tilt_range or draft.tilt_range)


def finished(draft: Draft) -> Tomogram:
    """Return the tomogram of a draft that has geometry and picks.

    Raises
    ------
    UserError
        The contrast is unknown, or is not what the file or the density at the picks says.
    """
    assert draft.voxel_size is not None
    sign, note = _sign(draft)
    return Tomogram(
        draft.name,
        draft.volume,
        draft.voxel_size,
        sign,
        draft.tilt_range,
        picks=draft.picks,
        where=draft.where,
        masks=draft.masks,
        attributes=draft.attributes,
        notes=tuple(f"{draft.name}: {each}" for each in (*draft.notes, *([note] if note else []))),
    )


def _sign(draft: Draft) -> tuple[int, str]:
    """Return the density sign and, where it was found out or assumed, a note that says so."""
    said = draft.reading.contrast
    if draft.sign is not None:
        if said is not None and SIGNS[said] != draft.sign:
            word = "bright" if draft.sign > 0 else "dark"
            raise UserError(
                f"{draft.where}: says that protein is {word}, but `contrast` {said}; leave it out"
            )
        return draft.sign, ""
    positions = np.zeros((0, 3)) if draft.picks is None else draft.picks.positions
    seen = sign_at_picks(draft.volume, float(draft.voxel_size or 1), positions)
    if said is not None:
        if seen.sign and seen.sign != SIGNS[said]:
            raise UserError(
                f"{draft.where}: `contrast` {said}, but the density at the picks is {seen}; check "
                "both; if it is right "
                "all the same (large hollow particles), import the tomogram first, without `picks`"
            )
        return SIGNS[said], ""
    if seen.sign:
        return seen.sign, f"contrast from the density at the picks: {seen}"
    if draft.reading.default_contrast is not None:
        return SIGNS[
            draft.reading.default_contrast
        ], f"contrast taken as {draft.reading.default_contrast}"
    looked = f"; at the picks it is {seen}" if len(positions) else ""
    raise UserError(
        f"{draft.where}: contrast unknown (the file does not say it{looked}); give `contrast` dark "
        "or `contrast` bright"
    )


def _without(reason: str, where: str) -> str:
    return reason.replace(where, "the file", 1)


def describe_drafts(drafts: Sequence[Draft]) -> dict[str, Any]:
    """Return what files say of their tomograms, before the user adds anything."""
    words = {1: "bright", -1: "dark", None: "not stated"}
    facts = {}
    for draft in drafts:
        said = SIGNS[draft.reading.contrast] if draft.reading.contrast else draft.sign
        size = draft.reading.voxel_size or draft.voxel_size
        facts[draft.name] = {
            "file": draft.where,
            "shape_zyx": list(draft.volume.shape),
            "voxel_size": f"unknown ({_without(draft.reason, draft.where)})"
            if size is None
            else size,
            "contrast": words[said],
            "tilt_range": draft.reading.tilt_range or draft.tilt_range,
            "picks": [str(file) for file in draft.pick_files],
        }
    notes = list(dict.fromkeys(note for draft in drafts for note in draft.notes))
    return {"n": len(drafts), "tomograms": facts, "importable": "yes, as tomograms", "notes": notes}
