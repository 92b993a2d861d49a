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
    """Draw a stratified split of a data set; see ``stratified``."""
    return stratified(data.labels, fractions, seed)


def stratified(labels: np.ndarray, fractions: Sequence[float], seed: int = 0) -> np.ndarray:
    """Draw a stratified split by labels (n,): (n,) int8 codes into ``SPLITS`` (train, val, test).

    ``fractions`` of the three (two: no test) sum to 1. In the whole the parts have their shares to
    within one volume, and within each class (unlabelled volumes count as one) to within one and a
    half. Raises UserError for other fractions.
    """
    shares = np.array([*fractions, 0.0][: len(SPLITS)], dtype=np.float64)
    if len(fractions) not in (2, 3) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        found = " ".join(f"{fraction:g}" for fraction in fractions)
        raise UserError(
            f"split {found}; expected the shares of train, val and (optional) test, which sum to 1"
        )
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    codes = np.empty(len(labels), dtype=np.int8)
    phase, ends, start = generator.random(), np.cumsum(shares)[:-1], 0
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
    """Put a split into a store: a copy beside it takes its place once whole, so the store is never
    half changed.
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
