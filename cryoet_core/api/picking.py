"""Picks as a Python user has them: saved, tabulated, cut out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cryoet_core.api.opening import PathLike, as_tomograms, temporary_folder
from cryoet_core.formats.picks import Geometry, PickReading, write_picks
from cryoet_core.formats.picks import read_picks as read_file
from cryoet_core.particles.extraction import Cut
from cryoet_core.particles.extraction import extract as cut_out
from cryoet_core.picks.table import Picks as CorePicks
from cryoet_core.store import Subtomograms, open_subtomograms

if TYPE_CHECKING:
    import pandas

    from cryoet_core.tomograms import Tomograms


@dataclass(frozen=True, repr=False)
class Picks(CorePicks):
    """Particle centres in tomograms, with the tomograms' geometry for the formats that need it.

    Attributes
    ----------
    geometry : mapping of str to Geometry
        Shape (z, y, x) in voxels and voxel size in Å of each tomogram, by name.

    Examples
    --------
    >>> import numpy as np
    >>> picks = Picks.of(np.array([[0.0, 10.0, 20.0]]), "tomo1")
    >>> picks
    Picks(n=1, tomograms=1, classes=particle)
    """

    geometry: Mapping[str, Geometry] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = len(set(self.tomograms.tolist()))
        return f"Picks(n={len(self)}, tomograms={names}, classes={', '.join(self.class_names)})"

    @classmethod
    def wrap(cls, picks: CorePicks, geometry: Mapping[str, Geometry] | None = None) -> Picks:
        """Give picks of the core the methods of this class.

        Parameters
        ----------
        picks : Picks
            Picks that a picker or a reader returned.
        geometry : mapping of str to Geometry, optional
            Shape and voxel size of the tomograms, by name.

        Returns
        -------
        Picks
            The same rows.
        """
        rows = {name: getattr(picks, name) for name in CorePicks.__dataclass_fields__}
        return cls(**rows, geometry=geometry or {})

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a pandas table: tomogram, class, x, y, z in Å, score and further columns.

        Raises
        ------
        ModuleNotFoundError
            pandas is not installed.
        """
        import pandas

        names = np.array([*self.class_names, ""], dtype=object)
        columns: dict[str, Any] = {"tomogram": self.tomograms, "class": names[self.classes]}
        columns |= {axis: self.positions[:, 2 - i] for i, axis in enumerate("xyz")}
        columns["score"] = self.scores
        columns |= {name: values for name, values in self.extra.items() if values.ndim == 1}
        return pandas.DataFrame(columns)

    def save(
        self,
        path: PathLike,
        *,
        dialect: str | None = None,
        voxel_size: float | None = None,
        box: int | None = None,
    ) -> list[str]:
        """Write the picks into a file of any format that `cryoet data convert` writes.

        Parameters
        ----------
        path : str or os.PathLike
            The file to write; its ending chooses the format.
        dialect : str, optional
            The format, where the ending does not tell, such as ``"relion4"``.
        voxel_size : float, optional
            Å per voxel, for formats that count in voxels where the tomograms are unknown.
        box : int, optional
            Box size in voxels, for formats of boxes.

        Returns
        -------
        list of str
            What the format cannot hold, a few words each.

        Raises
        ------
        UserError
            The format needs what is not known, or the file cannot be written.
        """
        return write_picks(Path(path), self, dialect, self.geometry, voxel_size=voxel_size, box=box)


def read_picks(
    path: PathLike,
    *,
    dialect: str | None = None,
    voxel_size: float | None = None,
    tomogram: str | None = None,
    data: Any = None,
) -> Picks:
    """Read particle centres from a file of any format that is known here.

    Parameters
    ----------
    path : str or os.PathLike
        A star, .tbl, .mod, .coords, .cbox, .box, JSON, csv, motive list or copick project.
    dialect : str, optional
        The format, where the content does not tell.
    voxel_size : float, optional
        Å per voxel, where the file counts in voxels and does not say their size.
    tomogram : str, optional
        The name of the tomogram, for files that do not say it.
    data : path, paths or Tomograms, optional
        The tomograms, whose voxel sizes and middles some formats need.

    Returns
    -------
    Picks
        Positions in Å from the first voxel, axes (z, y, x).

    Raises
    ------
    UserError
        The file holds no picks, or what it means is not known.
    """
    geometry = geometry_of(as_tomograms(data, voxel_size=voxel_size)) if data is not None else None
    reading = PickReading(
        voxel_size=voxel_size, geometry=geometry, tomogram=tomogram, dialect=dialect
    )
    return Picks.wrap(read_file(Path(path), reading).picks, geometry)


def geometry_of(tomograms: Tomograms) -> dict[str, Geometry]:
    """Return shape and voxel size of tomograms, by name."""
    return {each.name: Geometry(each.shape, each.voxel_size) for each in tomograms}


def extract(
    picks: CorePicks | PathLike,
    data: Any,
    *,
    box: int,
    out: PathLike | None = None,
    voxel_size: float | None = None,
    normalise: Literal["tomogram", "volume", "none"] = "tomogram",
    edge: Literal["drop", "pad", "refuse"] = "drop",
    drop_outside: bool = False,
    min_score: float | None = None,
    limit: int | None = None,
    contrast: str | None = None,
    tilt_range: Sequence[float] | None = None,
) -> Subtomograms:
    """Cut a box around every pick.

    Parameters
    ----------
    picks : Picks, str or os.PathLike
        Particle centres, or a file of them.
    data : path, paths or Tomograms
        The tomograms.
    box : int
        Box size in voxels.
    out : str or os.PathLike, optional
        The store to write (.h5); without it the store lies in a temporary folder.
    voxel_size : float, optional
        Å per voxel of the boxes; the tomograms' own without it.
    normalise : {"tomogram", "volume", "none"}
        What is brought to mean 0 and standard deviation 1.
    edge : {"drop", "pad", "refuse"}
        What becomes of boxes that reach beyond the tomogram.
    drop_outside : bool
        Leave out picks outside their tomogram, which are refused otherwise.
    min_score : float, optional
        Leave out picks that score lower.
    limit : int, optional
        Keep at most so many picks, the best first.
    contrast : {"dark", "bright"}, optional
        How protein looks, where the files do not say it.
    tilt_range : (float, float), optional
        Lowest and highest tilt in degrees, where the files do not say it.

    Returns
    -------
    Subtomograms
        The opened store.

    Raises
    ------
    UserError
        A pick lies outside of its tomogram, a box is too large, or nothing is left.
    """
    tomograms = as_tomograms(data, contrast=contrast, tilt_range=tilt_range)
    found = picks if isinstance(picks, CorePicks) else read_picks(picks, data=tomograms)
    target = temporary_folder() / "particles.h5" if out is None else Path(out)
    cut = Cut(box, voxel_size, normalise, edge, drop_outside, min_score, limit)
    cut_out(tomograms, found, target, cut)
    return open_subtomograms([target])
