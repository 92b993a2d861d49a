"""Picks: particle centres in tomograms, as pickers, files and evaluation exchange them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cryoet_core.support.errors import UserError


@dataclass(frozen=True)
class Picks:
    """Particle centres in one or more tomograms, one row each.

    Rows that do not fit together raise ValueError: that is a programmer's error; readers check
    files first.

    Attributes
    ----------
    positions : np.ndarray, shape (n, 3), float64
        (z, y, x) in Å; voxel index i lies at i * voxel size.
    scores : np.ndarray, shape (n,), float32
        Higher is better; NaN where the source gives none.
    classes : np.ndarray, shape (n,), int64
        Index into ``class_names``, -1 for none.
    class_names : tuple[str, ...]
        Names of the classes.
    tomograms : np.ndarray, shape (n,)
        Names of the tomograms (str).
    rotations : np.ndarray, shape (n, 3, 3), float64, or None
        Active rotations from the reference frame to the tomogram frame; NaN where one is unknown.
    extra : Mapping[str, np.ndarray]
        Further columns of n rows each, by name; formats that can hold them keep them.
    """

    positions: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    tomograms: np.ndarray
    rotations: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.positions)
        wanted: dict[str, tuple[np.ndarray | None, tuple[int, ...]]] = {
            "positions": (self.positions, (n, 3)),
            "scores": (self.scores, (n,)),
            "classes": (self.classes, (n,)),
            "tomograms": (self.tomograms, (n,)),
            "rotations": (self.rotations, (n, 3, 3)),
        }
        for name, (values, shape) in wanted.items():
            if values is not None and values.shape != shape:
                raise ValueError(f"{name} have shape {values.shape}; expected {shape}")
        if n and int(self.classes.max()) >= len(self.class_names):
            raise ValueError(f"class {int(self.classes.max())} of {len(self.class_names)} classes")

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def of(
        cls,
        positions: np.ndarray,
        tomogram: str,
        *,
        scores: np.ndarray | None = None,
        classes: np.ndarray | None = None,
        class_names: Sequence[str] = ("particle",),
        rotations: np.ndarray | None = None,
    ) -> Picks:
        """Make picks in one tomogram.

        Parameters
        ----------
        positions : np.ndarray, shape (n, 3)
            (z, y, x) in Å.
        tomogram : str
            Name of the tomogram.
        scores : np.ndarray, shape (n,), or None, optional
            Higher is better; NaN without them.
        classes : np.ndarray, shape (n,), or None, optional
            Index into ``class_names``; without them all picks are of the first class.
        class_names : Sequence[str], optional
            Names of the classes.
        rotations : np.ndarray, shape (n, 3, 3), or None, optional
            Active rotations from the reference frame to the tomogram frame.

        Returns
        -------
        Picks
            The picks.

        Raises
        ------
        ValueError
            When the rows do not fit together.

        Examples
        --------
        >>> picks = Picks.of(np.array([[100.0, 200.0, 300.0]]), "TS_01")
        >>> len(picks), picks.class_names
        (1, ('particle',))
        """
        n = len(positions)
        return cls(
            np.asarray(positions, dtype=np.float64).reshape(n, 3),
            np.full(n, np.nan, np.float32)
            if scores is None
            else np.asarray(scores, dtype=np.float32),
            np.zeros(n, np.int64) if classes is None else np.asarray(classes, dtype=np.int64),
            tuple(class_names),
            np.full(n, tomogram, dtype=object),
            None if rotations is None else np.asarray(rotations, dtype=np.float64),
        )

    @classmethod
    def empty(cls, class_names: Sequence[str] = ("particle",)) -> Picks:
        """Return a table without picks."""
        return cls.of(np.zeros((0, 3)), "", class_names=class_names)

    def select(self, rows: np.ndarray) -> Picks:
        """Return the picks of some rows only, in their order.

        Parameters
        ----------
        rows : np.ndarray
            Indices, or a mask of shape (n,).

        Returns
        -------
        Picks
            The same columns with these rows.
        """
        return replace(
            self,
            positions=self.positions[rows],
            scores=self.scores[rows],
            classes=self.classes[rows],
            tomograms=self.tomograms[rows],
            rotations=None if self.rotations is None else self.rotations[rows],
            extra={name: values[rows] for name, values in self.extra.items()},
        )

    def within(self, tomogram: str) -> Picks:
        """Return the picks in the tomogram of this name."""
        return self.select(self.tomograms == tomogram)

    def of_class(self, name: str) -> Picks:
        """Return the picks of one class.

        Parameters
        ----------
        name : str
            Name of the class.

        Returns
        -------
        Picks
            The picks; there may be none.

        Raises
        ------
        UserError
            When there is no such class.
        """
        if name not in self.class_names:
            raise UserError(
                f"class {name!r}: the picks are of {', '.join(self.class_names) or 'no class'}"
            )
        return self.select(self.classes == self.class_names.index(name))

    def best_first(self) -> Picks:
        """Sort by score, highest first; equal scores keep their order."""
        return self.select(np.argsort(-np.nan_to_num(self.scores, nan=-np.inf), kind="stable"))


def join(parts: Sequence[Picks]) -> Picks:
    """Join several sets of picks; classes are matched by name.

    Extra columns are kept where every part has them.

    Parameters
    ----------
    parts : Sequence[Picks]
        The sets of picks.

    Returns
    -------
    Picks
        All rows, in order; rotations are NaN for those that have none.
    """
    parts = [part for part in parts if len(part)] or list(parts[:1])
    if not parts:
        return Picks.empty()
    names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    rotated = any(part.rotations is not None for part in parts)
    return Picks(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([_renumbered(part, names) for part in parts]),
        names,
        np.concatenate([part.tomograms for part in parts]),
        np.concatenate([_rotations(part) for part in parts]) if rotated else None,
        {
            key: np.concatenate([part.extra[key] for part in parts])
            for key in parts[0].extra
            if all(key in part.extra for part in parts)
        },
    )


def _renumbered(part: Picks, names: tuple[str, ...]) -> np.ndarray:
    table = np.array([*(names.index(name) for name in part.class_names), -1], dtype=np.int64)
    numbers: np.ndarray = table[part.classes]
    return numbers


def _rotations(part: Picks) -> np.ndarray:
    return np.full((len(part), 3, 3), np.nan) if part.rotations is None else part.rotations
