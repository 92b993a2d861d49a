"""A tomogram that is read region by region, and a data set of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from cryoet_core.picks.table import Picks, join
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms.resample import ResampledVolume
from cryoet_core.tomograms.statistics import describe_bad_slices, robust_statistics
from cryoet_core.tomograms.volume import SAME_VOXELS, Mask, Region, Volume


@dataclass(frozen=True, repr=False)
class Tomogram:
    """One tomogram; nothing of its volume is in memory until ``read``.

    Attributes
    ----------
    name : str
        The name, different from that of every other in a data set.
    volume : Volume
        The density, as it stands in the file.
    voxel_size : float
        Å.
    density_sign : int
        +1 protein bright, -1 dark in the file; ``read`` always gives bright.
    tilt_range : (float, float) or None
        Lowest and highest tilt in degrees about ``tilt_axis``, None if unknown.
    tilt_axis : str
        The tilt axis, "y".
    picks : Picks or None
        Labels or ground truth, None where there are none.
    where : str
        The file, for messages.
    masks : mapping of str to Mask
        Ground truth by voxel.
    attributes : mapping
        What else the file says.
    notes : tuple of str
        What was assumed while opening it.
    """

    name: str
    volume: Volume
    voxel_size: float
    density_sign: int = 1
    tilt_range: tuple[float, float] | None = None
    tilt_axis: str = "y"
    picks: Picks | None = None
    where: str = ""
    masks: Mapping[str, Mask] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        shape = " x ".join(str(size) for size in self.shape)
        contrast = "bright" if self.density_sign > 0 else "dark"
        picks = "none" if self.picks is None else len(self.picks)
        return (
            f"Tomogram({self.name}: {shape} voxels (z, y, x) of {self.voxel_size:g} Å, "
            f"contrast={contrast}, picks={picks})"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        return self.volume.shape

    @property
    def extent(self) -> np.ndarray:
        """Å (z, y, x) from the first voxel to the last; picks lie between 0 and this."""
        return (np.array(self.shape) - 1) * self.voxel_size

    def read(self, region: Region | None = None) -> np.ndarray:
        """Read a region, protein bright.

        Parameters
        ----------
        region : tuple of slice, optional
            (z, y, x), without steps and inside the volume; the whole volume without it.

        Returns
        -------
        numpy.ndarray
            (d, h, w) float32, a copy.

        Raises
        ------
        UserError
            The data cannot be read or holds NaN; the message names the slices.

        Examples
        --------
        >>> from cryoet_core.tomograms import ArrayVolume
        >>> tomogram = Tomogram("a", ArrayVolume(np.ones((2, 2, 2))), 10.0, density_sign=-1)
        >>> tomogram.read((slice(0, 1), slice(0, 1), slice(0, 2)))
        array([[[-1., -1.]]], dtype=float32)
        """
        region = region or (slice(None), slice(None), slice(None))
        values = self.volume.read(region)
        if not np.isfinite(values).all():
            raise UserError(f"{self.where or self.name}: {describe_bad_slices(self.volume)}")
        return values if self.density_sign > 0 else np.negative(values, out=values)

    def at(self, voxel_size: float) -> Tomogram:
        """Return the same tomogram with other voxels, resampled lazily.

        Voxel i of the result lies at i * voxel_size Å as everywhere, so the picks stay as they are;
        masks are left out.

        Parameters
        ----------
        voxel_size : float
            Å.

        Returns
        -------
        Tomogram
            Itself where the voxel sizes differ by at most 2 %.
        """
        if abs(voxel_size / self.voxel_size - 1) <= SAME_VOXELS:
            return self
        volume = ResampledVolume(self.volume, voxel_size / self.voxel_size)
        return replace(self, volume=volume, voxel_size=float(voxel_size), masks={})

    def statistics(self) -> tuple[float, float]:
        """Return mean and standard deviation of the protein-bright values, without outliers.

        They come from a fixed sample of regions.

        Raises
        ------
        UserError
            The volume is constant or the sample holds NaN.
        """
        if "statistics" not in self._facts:
            self._facts["statistics"] = robust_statistics(self)
        mean, std = self._facts["statistics"]
        return mean, std

    def without_picks(self) -> Tomogram:
        """Return the same tomogram without what may hold the truth: picks, masks, attributes."""
        hidden = replace(self, picks=None, masks={}, attributes={})
        hidden._facts.update(self._facts)
        return hidden


@dataclass(frozen=True, repr=False)
class Tomograms:
    """A data set of tomograms, each with a name of its own.

    Attributes
    ----------
    tomograms : tuple of Tomogram
        The tomograms.
    notes : tuple of str
        What was assumed while opening them.
    opened_from : tuple of str
        The files, where they were opened.
    said : mapping
        What the user said when they were opened.
    kind : str
        "tomograms".
    """

    tomograms: tuple[Tomogram, ...]
    notes: tuple[str, ...] = ()
    opened_from: tuple[str, ...] = field(default=(), compare=False)
    said: Mapping[str, Any] = field(default_factory=dict, compare=False)
    kind: Literal["tomograms"] = field(default="tomograms", init=False)

    def __post_init__(self) -> None:
        names = [tomogram.name for tomogram in self.tomograms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            files = ", ".join(t.where or t.name for t in self.tomograms if t.name == twice[0])
            raise UserError(
                f"two tomograms are named {twice[0]!r} ({files}); rename a file or list them in a "
                "manifest"
            )

    def __len__(self) -> int:
        return len(self.tomograms)

    def __iter__(self) -> Iterator[Tomogram]:
        return iter(self.tomograms)

    def __getitem__(self, index: int) -> Tomogram:
        """Return tomogram ``index``, as iteration does."""
        return self.tomograms[index]

    def __repr__(self) -> str:
        names = shown_names(self, 3)
        picks = "none" if self.picks is None else len(self.picks)
        return f"Tomograms(n={len(self)}: {names}; picks={picks})"

    @property
    def voxel_size(self) -> float:
        """Voxel size in Å, the same in all. UserError when they differ."""
        first = self.tomograms[0]
        for other in self.tomograms[1:]:
            if abs(other.voxel_size / first.voxel_size - 1) > SAME_VOXELS:
                raise UserError(
                    f"{other.where or other.name}: voxels of {other.voxel_size:g} Å, but "
                    f"{first.where or first.name} "
                    f"has {first.voxel_size:g} Å; expected one voxel size; bin or resample them to "
                    "one"
                )
        return first.voxel_size

    @property
    def picks(self) -> Picks | None:
        """The picks of all tomograms, None where none has any."""
        found = [tomogram.picks for tomogram in self.tomograms if tomogram.picks is not None]
        return join(found) if found else None

    def named(self, name: str) -> Tomogram:
        """Return the tomogram of this name. UserError lists the names when there is none."""
        for tomogram in self.tomograms:
            if tomogram.name == name:
                return tomogram
        raise UserError(
            f"tomogram {name!r}: there is none of this name; expected one of {shown_names(self)}"
        )

    def without_picks(self) -> Tomograms:
        """Return the same tomograms, labels hidden."""
        return Tomograms(tuple(tomogram.without_picks() for tomogram in self.tomograms), self.notes)


def shown_names(tomograms: Sequence[Tomogram] | Tomograms, most: int = 5) -> str:
    """List names of tomograms for a message: ``a, b, c and 4 more``.

    Parameters
    ----------
    tomograms : sequence of Tomogram or Tomograms
        The tomograms.
    most : int
        The most names that are listed.
    """
    names = [tomogram.name for tomogram in tomograms]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
