"""Whether an answer on the kit's easy data is better than chance."""

from __future__ import annotations

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.testing import data as kit_data

SHUFFLES, CHANCE = 999, 0.05


def labels_beat_chance(answer: Labels, truth: np.ndarray) -> bool:
    """Whether labels, or neighbours in the embedding, agree with the classes better than chance.

    Parameters
    ----------
    answer : Labels
        What the method says of n subtomograms.
    truth : ndarray
        Their classes (n,).

    Returns
    -------
    bool
        True when shuffled classes agree as well in fewer than one case in twenty.
    """
    count = len(answer.classes) + 1
    table = np.eye(count)[answer.labels]
    pairs = [table @ table.T, answer.probabilities @ answer.probabilities.T]
    if answer.embedding is not None:
        pairs.append(_neighbours(answer.embedding))
    return any(_chance(pair, truth) < CHANCE for pair in pairs)


def picks_beat_chance(answer: Picks, truth: Picks, shape: tuple[int, int, int]) -> bool:
    """Whether more picks lie in particles than picks at random places would.

    Parameters
    ----------
    answer : Picks
        What the method found.
    truth : Picks
        Centres of the particles.
    shape : tuple of int
        Voxels (z, y, x) of each tomogram.

    Returns
    -------
    bool
        True when the picks in particles are significantly more.
    """
    from scipy.stats import binomtest

    radius, hits = kit_data.DIAMETER / 2, 0
    for name in np.unique(answer.tomograms):
        found, true = answer.within(str(name)), truth.within(str(name))
        distances = np.linalg.norm(found.positions[:, None] - true.positions[None], axis=-1)
        hits += int((distances.min(axis=1, initial=np.inf) < radius).sum())
    balls = len(truth) / max(1, len(np.unique(truth.tomograms)))
    volume = 4 / 3 * np.pi * (radius / kit_data.VOXEL_SIZE) ** 3
    by_chance = min(1.0, balls * volume / float(np.prod(shape)))
    return bool(binomtest(hits, len(answer), by_chance, "greater").pvalue < CHANCE)


def _neighbours(embedding: np.ndarray) -> np.ndarray:
    """(n, n): 1 where a volume is among the three nearest of another."""
    distances = np.linalg.norm(embedding[:, None] - embedding[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    near = np.zeros(distances.shape)
    np.put_along_axis(near, np.argsort(distances, axis=1, kind="stable")[:, :3], 1.0, axis=1)
    return near


def _chance(pairs: np.ndarray, truth: np.ndarray) -> float:
    """How often shuffled classes have at least as much in pairs of one class as the true ones."""
    generator = np.random.default_rng(0)
    pairs = pairs - np.diag(np.diag(pairs))

    def agreement(classes: np.ndarray) -> float:
        return float(pairs[classes[:, None] == classes[None]].sum())

    true = agreement(truth)
    shuffled = [agreement(generator.permutation(truth)) for _ in range(SHUFFLES)]
    reached = sum(value >= true - 1e-9 * abs(true) for value in shuffled)
    return (1 + reached) / (1 + SHUFFLES)
