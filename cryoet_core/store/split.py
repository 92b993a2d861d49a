"""Train, validation and test parts with the same classes in each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cryoet_core.store.columns import reserve, room
from cryoet_core.store.layout import SPLITS, open_shard
from cryoet_core.support import files
from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    from cryoet_core.store.subtomograms import Subtomograms


def split(data: Subtomograms, fractions: Sequence[float], seed: int = 0) -> np.ndarray:
    """Draw a stratified split of a data set.

    Parameters
    ----------
    data : Subtomograms
        The data set.
    fractions : sequence of float
        The fractions of train, val and, optionally, test, which sum to 1.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    numpy.ndarray
        (n,) int8 codes into ``SPLITS``; see ``stratified``.
    """
    return stratified(data.labels, fractions, seed)


def stratified(labels: np.ndarray, fractions: Sequence[float], seed: int = 0) -> np.ndarray:
    """Draw a stratified split by labels.

    In the whole the parts have their fractions to within one volume, and within each class to
    within one and a half. Unlabelled volumes count as one class.

    Parameters
    ----------
    labels : numpy.ndarray
        (n,), the class of each volume, -1 unlabelled.
    fractions : sequence of float
        The fractions of train, val and, optionally, test, which sum to 1.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    numpy.ndarray
        (n,) int8 codes into ``SPLITS`` (train, val, test).

    Raises
    ------
    UserError
        The fractions are not two or three numbers that sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> codes = stratified(np.zeros(10, int), [0.8, 0.1, 0.1])
    >>> np.bincount(codes)
    array([8, 1, 1])
    """
    parts = np.array([*fractions, 0.0][: len(SPLITS)], dtype=np.float64)
    if len(fractions) not in (2, 3) or (parts < 0).any() or abs(parts.sum() - 1) > 1e-6:
        found = " ".join(f"{fraction:g}" for fraction in fractions)
        raise UserError(
            f"split {found}; expected the fractions of train, val and (optional) test, which sum "
            "to 1"
        )
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    codes = np.empty(len(labels), dtype=np.int8)
    phase, ends, start = generator.random(), np.cumsum(parts)[:-1], 0
    given = np.zeros(len(ends), dtype=int)
    for stop in np.cumsum(np.unique(labels, return_counts=True)[1]):
        # what is missing from a rounded running total: what a class gets too much, the next gets
        # too little
        cuts = np.floor(ends * stop + phase).astype(int) - given
        cuts = np.clip(np.maximum.accumulate(cuts), 0, stop - start)
        given += cuts
        codes[order[start:stop]] = np.searchsorted(cuts, np.arange(stop - start), side="right")
        start = stop
    return codes


def save_split(path: Path | str, codes: np.ndarray) -> None:
    """Put a split into a store, which is never half changed.

    A copy beside the store takes its place once it is whole.

    Parameters
    ----------
    path : Path or str
        The store.
    codes : numpy.ndarray
        (n,) codes into ``SPLITS``, -1 for none.

    Raises
    ------
    UserError
        The number of codes differs from that of the volumes, or the disk refuses.
    """
    import h5py

    path = Path(path)
    count = len(open_shard(path))
    if len(codes) != count:
        raise UserError(
            f"{path}: {count} volumes, but a split of {len(codes)}; expected one code for each"
        )
    with files.replacing(path) as beside:
        shutil.copyfile(path, beside)
        reserve(beside, beside.stat().st_size + room(codes))
        with h5py.File(beside, "r+", locking=False) as file:
            if "split" in file:
                del file["split"]
            file["split"] = np.asarray(codes, dtype=np.int8)
