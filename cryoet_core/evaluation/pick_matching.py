"""Which pick found which particle, by the matching rules of the field.

All rules pair one pick with at most one particle. Distances are in Å; ``r1.5`` is the one rule
that counts in voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError

Rule: TypeAlias = Literal["optimal", "greedy", "r1.5", "shrec"]
RULES: tuple[Rule, ...] = get_args(Rule)
PARTICLE_ID = "mask_id"
"""Column of truth with each particle's number in the occupancy mask.

Without it they count 1, 2, ... in each tomogram.
"""
_MOST_PAIRS = 20_000_000

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Pairs: TypeAlias = tuple[Ints, Ints, Floats]
"""Rows of picks, rows of truth, distances."""


@dataclass(frozen=True)
class Match:
    """Which pick found which particle.

    Attributes
    ----------
    picks : array of int, shape (m,)
        Rows of the picks that found a particle, ascending.
    truth : array of int, shape (m,)
        The rows of their particles.
    distance : array of float, shape (m,)
        Their distances in Å.
    ranked : array of bool, shape (n,)
        Which of all n picks count as hits in a ranking by score. By the rule ``"optimal"`` the
        number of them among the best k picks is that of the optimal matching of these k picks
        alone, for every k; by the others they are the matched picks.
    repeats : array of bool, shape (n,)
        Picks that hit a particle which another one had found already (rule ``"shrec"``).
    """

    picks: Ints
    truth: Ints
    distance: Floats
    ranked: NDArray[np.bool_]
    repeats: NDArray[np.bool_]


def match(
    picks: Picks,
    truth: Picks,
    radius: float,
    rule: Rule = "optimal",
    *,
    voxel_size: float | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
) -> Match:
    """Pair picks and particles of the same tomogram, whatever their classes.

    ``"optimal"``: as many pairs within the radius as there can be, and of such matchings the one of
    least total distance. ``"greedy"``: picks in the order of their scores take the nearest particle
    that is still free. ``"r1.5"``: the published script of the PU picker, an assignment at the cost
    min(0, d² - r³) in voxels, so that pairs match below r^1.5 voxels. ``"shrec"``: the particle
    whose number the occupancy mask of the tomogram has at the pick's voxel, the mask being one
    voxel wider; the first hit by score counts.

    Parameters
    ----------
    picks : Picks
        What a picker found.
    truth : Picks
        The known particles.
    radius : float
        How far a pick may lie from a particle, in Å.
    rule : {"optimal", "greedy", "r1.5", "shrec"}
        How they are paired.
    voxel_size : float, optional
        Å; needed by ``"r1.5"`` and ``"shrec"``.
    masks : mapping of str to array, optional
        Occupancy mask (z, y, x) of each tomogram by name, 0 for background; needed by ``"shrec"``.

    Returns
    -------
    Match
        The pairs.

    Raises
    ------
    UserError
        An unknown rule, a rule without what it needs, or a radius beyond reason.

    References
    ----------
    ``"r1.5"``: Huang et al. (2022), doi:10.1007/978-3-031-19803-8_38
    """
    _check(radius, rule, voxel_size, masks, truth)
    parts = []
    mine, theirs = _rows_by_name(picks), _rows_by_name(truth)
    for name in sorted(set(mine) & set(theirs)):
        # in an order of their own, so that the order given decides nothing, not even a tie
        a, b = (
            rows[_best_first(part.select(rows))]
            for part, rows in ((picks, mine[name]), (truth, theirs[name]))
        )
        if rule == "shrec":
            parts.append(
                _shrec(
                    picks.select(a), truth.select(b), a, b, _mask_of(name, masks), voxel_size or 1.0
                )
            )
        else:
            parts.append(
                _by_distance(picks.select(a), truth.select(b), a, b, radius, rule, voxel_size)
            )
    ranked, repeats = np.zeros(len(picks), bool), np.zeros(len(picks), bool)
    for _, hits, again in parts:
        ranked[hits], repeats[again] = True, True
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    rows, columns, distance = (
        np.concatenate(x) for x in zip(empty, *(pairs for pairs, _, _ in parts), strict=True)
    )
    order = np.argsort(rows, kind="stable")
    return Match(rows[order], columns[order], distance[order], ranked, repeats)


def _check(
    radius: float,
    rule: str,
    voxel_size: float | None,
    masks: Mapping[str, np.ndarray] | None,
    truth: Picks,
) -> None:
    if rule not in RULES:
        raise UserError(f"`rule` {rule}: expected one of {', '.join(RULES)}")
    if not (np.isfinite(radius) and radius > 0):
        raise UserError(f"`radius` {radius:g}: expected a number of Å above 0")
    if rule in ("r1.5", "shrec") and voxel_size is None:
        raise UserError(
            f"`rule` {rule}: counts in voxels, but no voxel size is known; give `voxel_size`"
        )
    if rule == "shrec":
        lacking = sorted(set(truth.tomograms) - set(masks or {}))
        if lacking:
            raise UserError(
                f"`rule` shrec: tomogram {lacking[0]} has no occupancy mask; expected one numbered "
                "by particle; "
                "use `rule` optimal"
            )


def _rows_by_name(picks: Picks) -> dict[str, Ints]:
    if not len(picks):
        return {}
    names, inverse = np.unique(picks.tomograms.astype(str), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return {str(name): rows.astype(np.int64) for name, rows in zip(names, parts, strict=True)}


def _best_first(picks: Picks) -> Ints:
    """Rows by falling score, those without a score last.

    Equal ones come by place, so that the order given is irrelevant.
    """
    z, y, x = picks.positions.T
    rows: Ints = np.lexsort((x, y, z, -np.nan_to_num(picks.scores, nan=-np.inf))).astype(np.int64)
    return rows


# ---- rules of distance ---------------------------------------------------------------------------


def _by_distance(
    picks: Picks,
    truth: Picks,
    a: Ints,
    b: Ints,
    radius: float,
    rule: Rule,
    voxel_size: float | None,
) -> tuple[Pairs, Ints, Ints]:
    """Pairs, hits and repeats of one tomogram, in rows ``a`` and ``b`` of all.

    Picks come best first.
    """
    gate = radius if rule != "r1.5" else _wide_gate(radius, voxel_size or 1.0)
    near = _near(picks.positions, truth.positions, gate)
    if rule == "r1.5":
        i, j, d = near
        near = (i[d < gate], j[d < gate], d[d < gate])
    i, j, d = near
    if rule == "greedy":
        kept = _greedy(near, len(picks), len(truth))
    elif rule == "r1.5":
        # cost d² - r³ for a pair and 0 for none, shifted to be positive: every row pays the shift
        # once
        kept = _assign(i, j, d * d / gate**2 + 1, 2.0)
    else:
        # one more pair is worth more than all distances together
        kept = _assign(i, j, d / gate + 1, float(min(len(a), len(b))) + 3)
    pairs = (a[i[kept]], b[j[kept]], d[kept])
    hits = a[_ranked(i, j, len(picks))] if rule == "optimal" else pairs[0]
    return pairs, hits, np.zeros(0, np.int64)


def _wide_gate(radius: float, voxel_size: float) -> float:
    return float(voxel_size * (radius / voxel_size) ** 1.5)


def _near(a: np.ndarray, b: np.ndarray, radius: float) -> Pairs:
    """Every pair at most ``radius`` apart."""
    from scipy.spatial import KDTree

    first, second = KDTree(a), KDTree(b)
    if len(a) * len(b) > _MOST_PAIRS:
        count = int(first.count_neighbors(second, radius))
        if count > _MOST_PAIRS:
            raise UserError(
                f"`radius` {radius:g} Å: {count:,} pairs of {len(a):,} picks and {len(b):,} "
                "particles lie within it; "
                "expected about the radius of a particle"
            )
    found = first.sparse_distance_matrix(second, radius, output_type="ndarray")
    return found["i"].astype(np.int64), found["j"].astype(np.int64), found["v"].astype(np.float64)


def _assign(i: Ints, j: Ints, cost: Floats, alone: float) -> Ints:
    """Indices of the pairs (i, j) in the cheapest one-to-one matching.

    A row without a partner costs ``alone``: each row gets a column of its own to stay alone in, so
    that a full matching exists. Costs are above 0.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if not len(i):
        return np.zeros(0, np.int64)
    rows, i = np.unique(i, return_inverse=True)
    columns, j = np.unique(j, return_inverse=True)
    n, m = len(rows), len(columns)
    alone_in = np.arange(n)
    values = np.concatenate([cost, np.full(n, alone)])
    shape = (n, m + n)
    graph = csr_matrix(
        (values, (np.concatenate([i, alone_in]), np.concatenate([j, m + alone_in]))), shape
    )
    _, chosen = min_weight_full_bipartite_matching(graph)
    kept: Ints = np.flatnonzero(chosen[i] == j).astype(np.int64)
    return kept


def _ranked(i: Ints, j: Ints, n: int) -> Ints:
    """Picks that add a pair to the largest matching of the picks before them.

    Sets of picks that can be matched are a transversal matroid, so these are those of the matching
    of largest weight for any weights that fall with the rank (Edmonds, 1971): one assignment finds
    them for all thresholds.
    """
    return i[_assign(i, j, 1.0 + i.astype(np.float64), n + 1.0)]


def _greedy(near: Pairs, n: int, n_truth: int) -> Ints:
    i, j, d = near
    nearest = np.lexsort((j, d, i))
    bounds = np.searchsorted(i[nearest], np.arange(n + 1))
    free, kept = np.ones(n_truth, bool), []
    for row in range(n):
        for pair in nearest[bounds[row] : bounds[row + 1]]:
            if free[j[pair]]:
                free[j[pair]] = False
                kept.append(pair)
                break
    return np.array(kept, dtype=np.int64)


# ---- the rule of SHREC ---------------------------------------------------------------------------


def _mask_of(name: str, masks: Mapping[str, np.ndarray] | None) -> np.ndarray:
    mask = (masks or {})[name]
    if mask.ndim != 3 or mask.dtype.kind not in "iu":
        raise UserError(
            f"`rule` shrec: the mask of {name} is {mask.dtype} of shape {mask.shape}; expected "
            "whole numbers (z, y, x)"
        )
    return mask


def _shrec(
    picks: Picks, truth: Picks, a: Ints, b: Ints, mask: np.ndarray, voxel_size: float
) -> tuple[Pairs, Ints, Ints]:
    found = _occupants(mask, picks.positions, voxel_size)
    ids = np.asarray(truth.extra.get(PARTICLE_ID, np.arange(1, len(truth) + 1))).astype(np.int64)
    by_id = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[by_id], found), len(ids) - 1)
    row = np.where((ids[by_id][place] == found) & (found > 0), by_id[place], -1)
    inside = np.flatnonzero(row >= 0)
    particles, first = np.unique(row[inside], return_index=True)
    hits = inside[first]
    again = np.setdiff1d(inside, hits)
    distance = np.linalg.norm(picks.positions[hits] - truth.positions[particles], axis=1)
    return (a[hits], b[particles], distance), a[hits], a[again]


def _occupants(mask: np.ndarray, positions: np.ndarray, voxel_size: float) -> Ints:
    """The particle at each position, 0 for none.

    Background beside a particle counts as the particle's.
    """
    edge = np.array(mask.shape) - 1
    voxel = np.clip(np.rint(positions / voxel_size), 0, edge).astype(np.int64)
    steps = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]).astype(np.int64)
    z, y, x = np.moveaxis(np.clip(voxel[None] + steps[:, None], 0, edge), -1, 0)
    found: Ints = mask[z, y, x].astype(np.int64)
    occupant: Ints = np.where(found[0] > 0, found[0], found.max(axis=0))
    return occupant
