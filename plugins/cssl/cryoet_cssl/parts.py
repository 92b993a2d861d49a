"""Which cubes are learnt from, which choose the epoch, which only count: the same for every method
with one seed.
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
    """codes (n,) int8 into ``SPLITS``, -1 for none of them. labelled: rows of the training part
    with a label; learnt: those of them that the label fraction leaves. val, test: labelled rows of
    these parts."""

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
    """The split that the file holds, else 60:20:20 drawn class by class; then the share of the
    training labels.

    UserError where no labelled cube is left to learn from.
    """
    codes = file_split(data)
    if codes is None:
        codes = stratified(data.labels, SHARES, seed)
    labelled = [np.flatnonzero((codes == part) & (data.labels >= 0)) for part in (TRAIN, VAL, TEST)]
    if not len(labelled[TRAIN]):
        raise UserError(
            f"{data.paths[0]}: no labelled subtomogram in the training part "
            f"({int((codes == TRAIN).sum())} cubes); "
            "expected one at least; give more labelled data or another split"
        )
    learnt = nested_share(data.labels, labelled[TRAIN], fraction, seed)
    return Parts(codes, labelled[TRAIN], learnt, labelled[VAL], labelled[TEST])


def nested_share(labels: np.ndarray, rows: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The share ``fraction`` of ``rows`` of each class, at least one; a larger share holds what a
    smaller one does.
    """
    kept = []
    for label in np.unique(labels[rows]):
        own = rows[labels[rows] == label]
        order = np.random.default_rng([seed, int(label)]).permutation(len(own))
        kept.append(own[order[: max(1, round(fraction * len(own)))]])
    return np.sort(np.concatenate(kept))


def file_split(data: Subtomograms) -> np.ndarray | None:
    """The split column of the files; None where it is missing or says nothing."""
    return data.split if data.split is not None and (data.split >= 0).any() else None


def rows_without_labels(data: Subtomograms) -> np.ndarray:
    """What a run that sees no labels learns from: the training part where the files hold a split,
    else everything.
    """
    codes = file_split(data)
    return np.arange(len(data)) if codes is None else np.flatnonzero(codes == TRAIN)
