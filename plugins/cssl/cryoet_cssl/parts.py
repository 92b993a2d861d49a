"""Say which subtomograms are learnt from, which choose the epoch and which only count.

It is the same for every method with one seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryoet_core.store import Subtomograms
from cryoet_core.store.layout import SPLITS
from cryoet_core.store.split import stratified
from cryoet_core.support.errors import UserError

SHARES = (0.6, 0.2, 0.2)
TRAIN, VAL, TEST = range(len(SPLITS))


@dataclass(frozen=True)
class Parts:
    """Rows of a labelled data set by what they are used for.

    Attributes
    ----------
    codes : np.ndarray
        Index into ``SPLITS`` (n,) int8, -1 for none of them.
    labelled : np.ndarray
        Rows of the training part that have a label.
    learnt : np.ndarray
        Those of them that the label fraction leaves.
    val : np.ndarray
        Labelled rows of the validation part.
    test : np.ndarray
        Labelled rows of the test part.
    """

    codes: np.ndarray
    labelled: np.ndarray
    learnt: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def train(self) -> np.ndarray:
        """Every row of the training part, labelled or not."""
        return np.flatnonzero(self.codes == TRAIN)


def parts_of(data: Subtomograms, fraction: float, seed: int) -> Parts:
    """Take the split of the file, or draw 60:20:20 class by class; then the label fraction.

    Parameters
    ----------
    data : Subtomograms
        Subtomograms, all of one box size.
    fraction : float
        Fraction of the training labels to learn from.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    Parts
        The parts.

    Raises
    ------
    UserError
        Where no labelled subtomogram is left to learn from.
    """
    codes = file_split(data)
    if codes is None:
        codes = stratified(data.labels, SHARES, seed)
    labelled = [np.flatnonzero((codes == part) & (data.labels >= 0)) for part in (TRAIN, VAL, TEST)]
    if not len(labelled[TRAIN]):
        raise UserError(
            f"{data.paths[0]}: no labelled subtomogram in the training part "
            f"({int((codes == TRAIN).sum())} subtomograms); "
            "expected one at least; give more labelled data or another split"
        )
    learnt = nested_share(data.labels, labelled[TRAIN], fraction, seed)
    return Parts(codes, labelled[TRAIN], learnt, labelled[VAL], labelled[TEST])


def nested_share(labels: np.ndarray, rows: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Take a fraction of the rows of each class, at least one.

    A larger fraction holds what a smaller one does.

    Parameters
    ----------
    labels : np.ndarray
        Class of each subtomogram (n,), -1 where it is unknown.
    rows : np.ndarray
        Rows (m,) to take from.
    fraction : float
        Fraction to take, 0 to 1.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    np.ndarray
        Rows taken, sorted.
    """
    kept = []
    for label in np.unique(labels[rows]):
        own = rows[labels[rows] == label]
        order = np.random.default_rng([seed, int(label)]).permutation(len(own))
        kept.append(own[order[: max(1, round(fraction * len(own)))]])
    return np.sort(np.concatenate(kept))


def file_split(data: Subtomograms) -> np.ndarray | None:
    """Return the split column of the files, or None where it is missing or says nothing."""
    return data.split if data.split is not None and (data.split >= 0).any() else None


def rows_without_labels(data: Subtomograms) -> np.ndarray:
    """Return the rows that a run learns from when it sees no labels.

    These are the training part where the files hold a split, else all.
    """
    codes = file_split(data)
    return np.arange(len(data)) if codes is None else np.flatnonzero(codes == TRAIN)
