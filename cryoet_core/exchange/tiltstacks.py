"""Reconstruct subtomograms from stacks of 2-D tilt images (RELION 5, WarpTools) on import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from cryoet_core.algorithms.insertion import Insertion, TiltSeries
from cryoet_core.formats.relion import Particles
from cryoet_core.formats.source import VolumeSource
from cryoet_core.formats.tiltgeometry import read_tilt_series
from cryoet_core.formats.volumes import open_volumes
from cryoet_core.store.subtomograms import describe_rows
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted

_BATCH = 16
_VISIBLE = "rlnTomoVisibleFrames"


@dataclass
class TiltStacks(VolumeSource):
    """A source whose subtomograms are reconstructed when they are read.

    Attributes
    ----------
    tilts : list[np.ndarray]
        Of each row, the indices of the tilts of its images.
    series : dict[str, TiltSeries]
        The tilt series, by the tomogram's name.
    premultiplied : bool
        Whether the images are multiplied by the CTF already.
    """

    tilts: list[np.ndarray] = field(default_factory=list)
    series: dict[str, TiltSeries] = field(default_factory=dict)
    premultiplied: bool = True

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Reconstruct the subtomograms of some rows.

        Parameters
        ----------
        rows : np.ndarray, shape (b,)
            Indices of rows.

        Returns
        -------
        np.ndarray, shape (b, box, box, box), float32
            The subtomograms.
        """
        out = np.empty((len(rows), *self.shape), np.float32)
        for group in self._alike(rows):
            insertion = self._insertion(int(rows[group[0]]))
            for part in np.array_split(group, -(-len(group) // _BATCH)):
                images = torch.from_numpy(
                    np.stack([self._images(int(rows[place])) for place in part])
                )
                out[part] = insertion(images).numpy()
        return out

    def _alike(self, rows: np.ndarray) -> list[np.ndarray]:
        """Group places in ``rows`` of particles with the same tilts of the same tomogram.

        The particles of a group have one insertion in common.
        """
        assert self.tomogram is not None
        keys = [(str(self.tomogram[row]), self.tilts[row].tobytes()) for row in rows]
        return [
            np.array([place for place, key in enumerate(keys) if key == own])
            for own in dict.fromkeys(keys)
        ]

    def _insertion(self, row: int) -> Insertion:
        assert self.tomogram is not None
        assert self.voxel_size is not None
        series = self.series[str(self.tomogram[row])].select(torch.from_numpy(self.tilts[row]))
        return Insertion(series, self.shape[0], self.voxel_size, premultiplied=self.premultiplied)

    def _images(self, row: int) -> np.ndarray:
        """The visible images (t, box, box) of a particle."""
        path = self.files[self.file[row]]
        images = _images_of(path)
        assert self.tomogram is not None
        whole = len(images) == len(self.series[str(self.tomogram[row])])
        chosen = images[self.tilts[row]] if whole else images
        return np.asarray(chosen, dtype=np.float32)


def from_tilt_stacks(
    particles: Particles, names: list[str], found: dict[str, Path], tomograms: Path | None
) -> VolumeSource:
    """Make a source of the subtomograms of particles with tilt images.

    Parameters
    ----------
    particles : Particles
        The rows of the star.
    names : list[str]
        The stack of each particle, as named in the star.
    found : dict[str, Path]
        The file of each stack.
    tomograms : Path | None
        The RELION tomogram set.

    Returns
    -------
    VolumeSource
        The source.

    Raises
    ------
    UserError
        When the tomogram set is missing or does not fit, or when a stack has another number of
        images.
    """
    path = particles.path
    if tomograms is None:
        raise UserError(
            f"{path}: particles are stacks of 2-D images; expected the geometry of their tilt "
            "series too; give the "
            "tomogram set with `tomograms` tomograms.star"
        )
    if particles.tomogram is None:
        raise UserError(
            f"{path}: particles are stacks of 2-D images without rlnTomoName; expected their "
            "tomogram"
        )
    series = read_tilt_series(tomograms, sorted(set(map(str, particles.tomogram))))
    files = list(dict.fromkeys(found[name] for name in names))
    box = _images_of(files[0]).shape[-1]
    source = TiltStacks(
        files=files,
        file=np.array([files.index(found[name]) for name in names]),
        index=np.zeros(len(names), dtype=np.int64),
        shape=(box, box, box),
        tilts=_tilts(particles, series),
        series=series,
        premultiplied=_premultiplied(particles),
    )
    source.tomogram = particles.tomogram
    source.voxel_size = particles.pixel_size
    source.voxel_reason = f"{path} has no rlnImagePixelSize"
    _check(source, particles, box)
    _describe(source)
    return source


def _tilts(particles: Particles, series: dict[str, TiltSeries]) -> list[np.ndarray]:
    """Indices of the tilts that each particle is seen in."""
    assert particles.tomogram is not None
    counts = [len(series[str(name)]) for name in particles.tomogram]
    texts = particles.table.columns.get(_VISIBLE)
    if texts is None:
        return [np.arange(count) for count in counts]
    tilts = []
    for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
        flags = [part.strip() for part in text.strip("[] ").split(",")]
        if len(flags) != count or set(flags) - {"0", "1"} or "1" not in flags:
            raise UserError(
                f"{particles.path}: {_VISIBLE} of row {row} (from 0) has "
                f"{counted(len(flags), 'entry')}; "
                "expected a 0 or 1 for "
                f"each of the {count} images of tomogram {particles.tomogram[row]}"
            )
        tilts.append(np.flatnonzero(np.array(flags) == "1"))
    return tilts


def _premultiplied(particles: Particles) -> bool:
    from cryoet_core.formats.star import read_star

    column = "rlnCtfDataAreCtfPremultiplied"
    said = {
        text
        for table in read_star(particles.path)
        if column in table
        for text in table.columns[column]
    }
    return "0" not in said


def _check(source: TiltStacks, particles: Particles, box: int) -> None:
    assert source.tomogram is not None
    wrong = []
    for row, number in enumerate(source.file):
        shape = _images_of(source.files[number]).shape
        expected = {len(source.tilts[row]), len(source.series[str(source.tomogram[row])])}
        if shape[0] not in expected or shape[1:] != (box, box):
            wrong.append(row)
    if wrong:
        shape = _images_of(source.files[source.file[wrong[0]]]).shape
        raise UserError(
            f"{particles.path}: the stacks of {describe_rows(np.array(wrong))} do not fit their "
            "tilt series "
            f"({source.files[source.file[wrong[0]]].name}: {' x '.join(map(str, shape))}); "
            "expected "
            f"{len(source.tilts[wrong[0]])} visible images of {box} x {box}"
        )


def _describe(source: TiltStacks) -> None:
    """The tilt range about y that all particles together have, and notes."""
    assert source.tomogram is not None
    used = {
        (str(name), tilts.tobytes()): tilts
        for name, tilts in zip(source.tomogram, source.tilts, strict=True)
    }
    axes = {series.axis() for series in source.series.values()}
    if axes == {"y"}:
        angles = [
            source.series[name].tilts()[torch.from_numpy(tilts)]
            for (name, _), tilts in used.items()
        ]
        low, high = (
            min(float(part.min()) for part in angles),
            max(float(part.max()) for part in angles),
        )
        source.tilt_range = (round(low, 1), round(high, 1))
    else:
        source.notes.append("tilted about x, not y: the tilt range is left out")
    source.notes.append(
        f"subtomograms made by Fourier insertion of {min(map(len, source.tilts))} to "
        f"{max(map(len, source.tilts))} images "
        f"each, weighted by CTF and dose ({'' if source.premultiplied else 'not '}premultiplied "
        "images)"
    )


def _images_of(path: Path) -> np.ndarray:
    """(t, h, w) of an MRC stack of images, not yet read where the format allows it."""
    array = open_volumes(path).array
    flat: np.ndarray = array.reshape(-1, *array.shape[-2:])
    return flat
