"""Picks: particle centres in tomograms, the currency between pickers, files, extraction and
evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cryoet_core.support.errors import UserError


@dataclass(frozen=True)
class Picks:
    """Particle centres in one or more tomograms, one row each.

    positions (n, 3) float64: (z, y, x) in Å, voxel index i at i * voxel size. scores (n,) float32:
    higher is better, NaN where the source gives none. classes (n,) int64 into ``class_names``, -1
    for none. tomograms (n,): names (str). rotations (n, 3, 3) float64 or None: active, reference
    frame to tomogram frame; NaN where one is unknown. extra: further columns of n rows each, by
    name, kept by the formats that can hold them.

    Raises ValueError when the rows do not fit together: that is a programmer's error; readers check
    files first.
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
        """Picks in one tomogram; without scores they are NaN, without classes all are of the
        first.
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
        """No picks at all."""
        return cls.of(np.zeros((0, 3)), "", class_names=class_names)

    def select(self, rows: np.ndarray) -> Picks:
        """The same picks with these rows (indices or a mask) only, in this order."""
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
        """Those in the tomogram of this name."""
        return self.select(self.tomograms == tomogram)

    def of_class(self, name: str) -> Picks:
        """Those of the class of this name. UserError when there is no such class."""
        if name not in self.class_names:
            raise UserError(
                f"class {name!r}: the picks are of {', '.join(self.class_names) or 'no class'}"
            )
        return self.select(self.classes == self.class_names.index(name))

    def best_first(self) -> Picks:
        """Sorted by score, highest first; equal scores keep their order."""
        return self.select(np.argsort(-np.nan_to_num(self.scores, nan=-np.inf), kind="stable"))


def join(parts: Sequence[Picks]) -> Picks:
    """Several sets of picks as one: classes are matched by name; rotations are NaN for those that
    have none.

    Extra columns are kept where every part has them.
    """
    parts = [part for part in parts if len(part)] or list(parts[:1])
    if not parts:
        return Picks.empty()
    names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    turned = any(part.rotations is not None for part in parts)
    return Picks(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([_renumbered(part, names) for part in parts]),
        names,
        np.concatenate([part.tomograms for part in parts]),
        np.concatenate([_rotations(part) for part in parts]) if turned else None,
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
