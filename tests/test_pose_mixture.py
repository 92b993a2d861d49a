"""Densities in unknown poses: the two steps against restatements, planted structures found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations, product

import pytest
import torch
from planted_bodies import BOX, TILTS, body, directly, generator
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from cryoet_core.algorithms.centring import translate
from cryoet_core.algorithms.fourier import apply_filter, wedge_mask
from cryoet_core.algorithms.pose_mixture import (
    Parameters,
    ParticleShard,
    PoseMixture,
    RefinementStage,
    State,
)
from cryoet_core.algorithms.pose_mixture.band import FrequencyBand
from cryoet_core.algorithms.pose_mixture.em import (
    PoseWeights,
    balanced,
    expectation,
    maximisation,
    sums,
)
from cryoet_core.algorithms.pose_mixture.model import survivors
from cryoet_core.algorithms.transforms import random_rotations, rotate, rotation_grid, standardise

Reduce = Callable[[Tensor], Tensor]


def particles(
    kinds: list[int], each: int, snr: float, shift: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Volumes (n, 1, s, s, s) behind a wedge, their kinds, rotations and shifts."""
    labels = torch.tensor([kind for _ in range(each) for kind in kinds])
    turns = random_rotations(len(labels), generator(1))
    shifts = shift * (2 * torch.rand(len(labels), 3, generator=generator(2)) - 1)
    clean = rotate(
        torch.stack([body(k) for k in range(3)])[labels][:, None], turns, shifts, mode="fourier"
    )
    clean = standardise(clean)
    noise = torch.randn(clean.shape, generator=generator(3)) / math.sqrt(snr)
    return standardise(apply_filter(clean + noise, wedge_mask(BOX, TILTS))), labels, turns, shifts


def shard_of(volumes: Tensor) -> ParticleShard:
    return ParticleShard(
        lambda rows: volumes[rows], len(volumes), 0, len(volumes), lambda tensor: tensor
    )


# ---- the two steps -------------------------------------------------------------------------------


def restated(
    band: FrequencyBand, small: Tensor, templates: Tensor, noise: Tensor, rotations: Tensor
) -> Tensor:
    """log p(x | k, R) / p(x | noise), (n, k, r), with every view computed from its definition in
    double precision.
    """
    points = band.points[band.seen]
    variance = noise.double()[band.shell[band.seen]]
    data = torch.stack([directly(v, points) for v in small])
    out = torch.zeros(len(small), len(templates), len(rotations), dtype=torch.float64)
    for k, density in enumerate(templates):
        for r, turn in enumerate(rotations):
            view = directly(density, points @ turn)
            distance = (data - view).abs().square() - data.abs().square()
            out[:, k, r] = -0.5 * (distance / variance).sum(1)
    return out


def right_angles() -> Tensor:
    """The 24 turns of a cube (24, 3, 3), which take Fourier points to Fourier points: no
    interpolation.
    """
    axes = torch.eye(3)
    signed = [
        axes[list(order)] * torch.tensor(signs)[:, None]
        for order in permutations(range(3))
        for signs in SIGNS
    ]
    return torch.stack([turn for turn in signed if torch.linalg.det(turn) > 0])


SIGNS = list(product((1.0, -1.0), repeat=3))


@pytest.mark.parametrize("empty", [False, True])
def test_expectation_is_its_definition(empty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes, *_ = particles([0, 1], 4, snr=1.0)
    band = FrequencyBand(BOX, 4, TILTS)
    small = band.crop(volumes[:, 0])
    templates = band.crop(torch.stack([body(0), body(1)]))
    noise = torch.full((5,), 3e4)
    weights = torch.tensor([0.5, 0.3, 0.2]) if empty else torch.tensor([0.6, 0.4])
    rotations = right_angles()
    scores = restated(band, small, templates, noise, rotations)
    evidence = scores.logsumexp(2) - math.log(len(rotations))
    if empty:
        evidence = torch.cat([evidence, torch.zeros(len(small), 1, dtype=torch.float64)], 1)
    found = expectation(band, small, templates, weights, noise, rotations, best=5)
    torch.testing.assert_close(found.log_evidence.double(), evidence, rtol=1e-3, atol=1e-3)
    posterior = (scores + weights[:2].double().log()[:, None]).flatten(1) - math.log(len(rotations))
    posterior = (posterior - (evidence + weights.double().log()).logsumexp(1, keepdim=True)).exp()
    pairs = found.component * len(rotations) + found.rotation
    torch.testing.assert_close(
        found.weight.double(), posterior.gather(1, pairs), rtol=1e-2, atol=1e-4
    )
    torch.testing.assert_close(
        found.weight.double(), posterior.topk(5).values, rtol=1e-2, atol=1e-4
    )
    # and in pieces of a few rotations
    monkeypatch.setattr(
        "cryoet_core.algorithms.pose_mixture.em._CHUNK_BYTES", 3 * 4 * 2 * 16 * int(band.seen.sum())
    )
    pieces = expectation(band, small, templates, weights, noise, rotations, best=5)
    torch.testing.assert_close(pieces.log_evidence, found.log_evidence, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pieces.weight, found.weight, rtol=1e-3, atol=1e-5)
    pairs = pieces.component * len(rotations) + pieces.rotation
    torch.testing.assert_close(
        pieces.weight.double(), posterior.gather(1, pairs), rtol=1e-2, atol=1e-4
    )


def test_expectation_finds_the_planted_pose_and_component() -> None:
    band = FrequencyBand(BOX, 6, TILTS)
    rotations = rotation_grid(40.0)
    kinds, turns = torch.tensor([1, 2, 1, 2, 1]), torch.tensor([0, 3, 17, 40, 71])
    clean = rotate(
        torch.stack([body(k) for k in range(3)])[kinds][:, None], rotations[turns], mode="fourier"
    )
    seen = apply_filter(clean, wedge_mask(BOX, TILTS))
    noise = (
        band.shell_mean(band.coefficients(band.crop(seen[:, 0])).abs().square())
        .mean(0)
        .clamp(min=1e-3)
        / 10
    )
    found = expectation(
        band,
        band.crop(seen[:, 0]),
        band.crop(torch.stack([body(1), body(2)])),
        torch.tensor([0.5, 0.5]),
        noise,
        rotations,
    )
    assert found.component[:, 0].tolist() == (kinds - 1).tolist()
    assert (
        found.rotation[kinds == 1, 0].tolist() == turns[kinds == 1].tolist()
    )  # the tetrahedron looks alike from 12 sides


def test_the_average_of_aligned_particles_is_their_density() -> None:
    """With the true poses known, one maximisation gives back the density, also where single views
    miss a wedge.
    """
    volumes, _, turns, _ = particles([1], 60, snr=50.0)
    band = FrequencyBand(BOX, 6, TILTS)
    small = band.crop(volumes[:, 0])
    n = len(small)
    poses = PoseWeights(
        torch.zeros(n, 1),
        torch.zeros(n, 1, dtype=torch.long),
        torch.arange(n)[:, None],
        torch.ones(n, 1),
    )
    stats = sums(band, small, poses, torch.ones(1), turns)
    assert float(stats.share) == n
    assert float(stats.coverage.mean()) == pytest.approx(2 / 3 * n, rel=0.05)
    noise = torch.full((7,), 1.0)
    fitted = maximisation(band, stats, torch.ones(()), noise, n)
    truth = band.volumes(band.coefficients(band.crop(body(1)[None])))[0]
    found = fitted.templates[0]
    assert float((found * truth).sum() / (found.norm() * truth.norm())) > 0.97
    assert float(fitted.weights) == 1
    assert bool((fitted.noise > 0).all())


# ---- which components stay -----------------------------------------------------------------------


def table(copies: int, empty: bool = False) -> Tensor:
    """log(weight * evidence) of 60 particles of two kinds; component 0 explains the first kind, the
    rest the second.
    """
    g = generator(9)
    kinds = torch.arange(60) % 2
    columns = [torch.where(kinds == 0, 100.0, 20.0)]
    columns += [
        torch.where(kinds == 1, 100.0, 20.0) + torch.randn(60, generator=g) for _ in range(copies)
    ]
    columns += [torch.zeros(60)] if empty else []
    return torch.stack(columns, 1)


@pytest.mark.parametrize("empty", [False, True])
def test_copies_go_and_distinct_ones_stay(empty: bool) -> None:
    for copies in (1, 2, 4):
        kept = survivors(table(copies, empty), copies + 1, 0.15).tolist()
        assert len(kept) == 2
        assert kept[0] == 0
    assert survivors(table(3, empty), 4, 0.0).tolist() == [
        0,
        1,
        2,
        3,
    ]  # nothing is merged at 0, all are someone's best
    assert survivors(table(2, empty), 3, 1.01).tolist() in (
        [0],
        [1],
        [2],
    )  # one is left, whatever the threshold


def test_one_that_is_nobodys_best_goes() -> None:
    mixed = torch.cat([table(1), torch.full((60, 1), -5.0)], 1)
    assert survivors(mixed, 3, 0.0).tolist() == [0, 1]
    assert survivors(torch.tensor([[1.0], [2.0]]), 1, 0.5).tolist() == [0]


def test_particles_that_nothing_explains_do_not_take_their_component_with_them() -> None:
    """Cubes of noise fit every density worse than nothing does, and must be in some component while
    none is empty.
    """
    noise = torch.tensor([[-150.0, -160.0, -155.0]]).expand(60, 3)
    mixed = torch.cat([torch.cat([table(1), torch.full((60, 1), 15.0)], 1), noise])
    mixed[:30, 2] = 101.0
    assert survivors(mixed, 3, 0.0).tolist() == [0, 1, 2]
    assert len(survivors(mixed, 3, 0.15)) == 2


def test_balanced_shares_let_every_component_explain_as_much(lockstep: Callable[..., None]) -> None:
    evidence = 5.0 * torch.randn(90, 3, generator=generator(15)) + torch.tensor([0.0, 40.0, -30.0])
    weights = balanced(evidence, 100, lambda tensor: tensor)
    share = (evidence + weights.log()).softmax(1).sum(0)
    torch.testing.assert_close(share, torch.full((3,), 30.0), rtol=0.02, atol=0)
    assert float(weights.sum()) == pytest.approx(1)
    found = {}

    def work(rank: int, reduce: Reduce) -> None:
        found[rank] = balanced(evidence[:50] if rank == 0 else evidence[50:], 100, reduce)

    lockstep(2, work)
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0].log(), weights.log(), rtol=0, atol=1e-3)


# ---- the fit -------------------------------------------------------------------------------------

SHORT = (
    RefinementStage(4, 36.0, 4, move=False, balance=True),
    RefinementStage(5, 30.0, 3, merge=0.15),
    RefinementStage(5, 30.0, 2, merge=0.15, split=True),
)


def seeded(i: int) -> torch.Generator:
    return generator(10, i)


def fitted(
    model: PoseMixture, volumes: Tensor, seeds: list[int], shifts: Tensor | None = None
) -> State:
    *_, last = model.fit(shard_of(volumes), torch.tensor(seeds), seeded, shifts=shifts)
    return last


@pytest.mark.parametrize("kinds", [[0, 1], [0, 1, 2]])
def test_planted_structures_are_told_apart(kinds: list[int]) -> None:
    volumes, labels, *_ = particles(kinds, 36, snr=1.0)
    model = PoseMixture(BOX, TILTS, schedule=SHORT, empty=True)
    state = fitted(model, volumes, list(range(6)))
    assert len(state.parameters.templates) == len(kinds)
    assert adjusted_rand_score(labels, state.labels) == 1.0
    answer = model.label(
        lambda rows: volumes[rows], len(volumes), state.parameters, state.shifts, state.spread
    )
    assert adjusted_rand_score(labels, answer.probabilities.argmax(1)) == 1.0
    torch.testing.assert_close(answer.probabilities.sum(1), torch.ones(len(volumes)))
    evidence = [fact["log_evidence"] for fact in state.history]
    assert evidence[3] > evidence[0]
    one = model.label(
        lambda rows: volumes[5:6], 1, state.parameters, state.shifts[5:6], state.spread
    )
    torch.testing.assert_close(one.probabilities, answer.probabilities[5:6], rtol=1e-3, atol=1e-4)


def test_poses_are_found_up_to_one_common_rotation() -> None:
    volumes, _, turns, _ = particles([1], 30, snr=5.0)
    model = PoseMixture(
        BOX, TILTS, schedule=(RefinementStage(4, 36.0, 5, move=False), RefinementStage(6, 20.0, 5))
    )
    state = fitted(model, volumes, [0])
    answer = model.label(
        lambda rows: volumes[rows], 30, state.parameters, state.shifts, state.spread
    )
    common = turns.transpose(1, 2) @ answer.rotations  # R_n = R_n' C: the same C for all
    cosine = ((common[:, None] * common[None]).sum((2, 3)) - 1) / 2
    angle = torch.rad2deg(cosine.clamp(-1, 1).acos())
    assert float(angle[angle.mean(1).argmin()].median()) < 25


def test_shifts_are_found() -> None:
    volumes, labels, _, shifts = particles([0, 2], 30, snr=3.0, shift=2.0)
    model = PoseMixture(BOX, TILTS, schedule=SHORT, max_shift=4.0, mask_radius=7.0)
    guess = shifts + 0.7 * torch.randn(shifts.shape, generator=generator(11))
    state = fitted(model, volumes, list(range(4)), shifts=guess)
    assert state.spread > 0.5
    assert adjusted_rand_score(labels, state.labels) > 0.9
    error = (state.shifts - shifts - (state.shifts - shifts).mean(0)).square().mean().sqrt()
    assert float(error) < 0.5 < float((guess - shifts).square().mean().sqrt())
    assert float(state.shifts.norm(dim=1).max()) <= 4.0 + 1e-4


def test_many_empty_cubes_cost_no_structure() -> None:
    volumes, labels, *_ = particles([0, 1, 2], 20, snr=1.0)
    empty = standardise(
        apply_filter(
            torch.randn(90, 1, BOX, BOX, BOX, generator=generator(16)), wedge_mask(BOX, TILTS)
        )
    )
    volumes, labels = torch.cat([volumes, empty]), torch.cat([labels, torch.full((90,), 3)])
    model = PoseMixture(BOX, TILTS, schedule=SHORT[:2], empty=True)
    state = fitted(model, volumes, [0, 1, 4, 5, 60, 70, 80, 90])
    assert len(state.parameters.templates) == 3
    assert adjusted_rand_score(labels, state.labels) > 0.95


def test_what_comes_apart_is_taken_apart_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds cannot show three structures at once."""
    monkeypatch.setattr("cryoet_core.algorithms.pose_mixture.model._SPLIT_SEEDS", 2)
    volumes, labels, *_ = particles([0, 1, 2], 20, snr=2.0)
    model = PoseMixture(
        BOX, TILTS, schedule=(replace(SHORT[0], iterations=2), replace(SHORT[2], iterations=1))
    )
    state = fitted(model, volumes, [0])
    assert [fact["k"] for fact in state.history] == [1, 1, 3]
    assert adjusted_rand_score(labels, state.labels) > 0.95


def test_particles_follow_their_density_to_the_centre() -> None:
    """A density beside the box centre and particles in place explain the same as both moved, each
    in its own frame.
    """
    turns = random_rotations(30, generator(17))
    beside = torch.tensor([1.5, -1.0, 0.5])
    clean = standardise(
        rotate(body(1)[None, None].expand(30, -1, -1, -1, -1), turns, mode="fourier")
    )
    away = (turns @ beside[:, None])[..., 0]
    volumes = translate(clean[:, 0], away)[:, None]
    model = PoseMixture(BOX, None, schedule=(RefinementStage(6, 20.0, 3),), max_shift=4.0)
    band = FrequencyBand(BOX, 6, None)
    template = translate(band.crop(body(1)[None]), beside[None] * band.small / BOX)
    known = Parameters(template, torch.ones(1), torch.full((7,), 2e3))
    start = State(0, known, torch.zeros(30, 3), 2.0, torch.zeros(30, dtype=torch.long))
    *_, state = model.fit(shard_of(volumes), torch.tensor([0]), seeded, start=start)
    evidence = [fact["log_evidence"] for fact in state.history]
    assert evidence == sorted(evidence)
    assert float((state.shifts - away).norm(dim=1).median()) < 0.4 < 0.3 * float(beside.norm())


def test_labelling_finds_particles_that_lie_far_from_where_they_were_thought() -> None:
    volumes, labels, _, shifts = particles([0, 2], 20, snr=3.0, shift=2.0)
    model = PoseMixture(BOX, TILTS, schedule=SHORT[:2], max_shift=4.0, mask_radius=7.0)
    state = fitted(model, volumes, list(range(4)), shifts=shifts)
    answer = model.label(lambda rows: volumes[rows], 40, state.parameters, torch.zeros(40, 3), 2.0)
    assert (
        adjusted_rand_score(labels, answer.probabilities.argmax(1)) > 0.7
    )  # 0.1 without the coarse stages
    assert float((answer.shifts - shifts).norm(dim=1).median()) < 0.7


def test_centred_particles_are_left_where_they_are() -> None:
    volumes, *_ = particles([0, 1], 30, snr=1.0)
    guess = 1.5 * torch.randn(60, 3, generator=generator(12))
    state = fitted(
        PoseMixture(BOX, TILTS, schedule=SHORT[:2], max_shift=4.0),
        volumes,
        list(range(4)),
        shifts=guess,
    )
    assert not state.shifts.any()
    assert state.spread == 0


def test_empty_cubes_are_called_empty() -> None:
    volumes, labels, *_ = particles([1], 40, snr=2.0)
    noise = standardise(
        apply_filter(
            torch.randn(15, 1, BOX, BOX, BOX, generator=generator(13)), wedge_mask(BOX, TILTS)
        )
    )
    both = torch.cat([volumes, noise])
    state = fitted(PoseMixture(BOX, TILTS, schedule=SHORT, empty=True), both, [0, 1, 2])
    k = len(state.parameters.templates)
    assert len(state.parameters.weights) == k + 1
    truth = torch.cat([labels * 0, torch.ones(15, dtype=torch.long)])
    assert adjusted_rand_score(truth, state.labels == k) > 0.9


def same(a: State, b: State) -> None:
    assert (a.iteration, a.spread) == (b.iteration, b.spread)
    assert torch.equal(a.labels, b.labels)
    for name in ("templates", "weights", "noise"):
        torch.testing.assert_close(
            getattr(a.parameters, name), getattr(b.parameters, name), rtol=0, atol=0
        )
    torch.testing.assert_close(a.shifts, b.shifts, rtol=0, atol=0)
    assert a.history == b.history


def test_going_on_from_a_state_ends_like_an_uninterrupted_fit() -> None:
    volumes, _, _, shifts = particles([0, 1], 20, snr=2.0, shift=1.5)

    def fit(start: State | None) -> Iterator[State]:
        model = PoseMixture(BOX, TILTS, schedule=SHORT, max_shift=3.0, empty=True)
        return model.fit(shard_of(volumes), torch.arange(3), seeded, shifts=shifts, start=start)

    states = list(fit(None))
    assert [state.iteration for state in states] == list(range(4, 10))
    for number in (0, 2, 4):
        kept = replace(
            states[number],
            history=list(states[number].history),
            shifts=states[number].shifts.clone(),
        )
        rest = list(fit(kept))
        assert len(rest) == len(states) - number - 1
        same(rest[-1], states[-1])
    assert list(fit(states[-1])) == []


def test_shards_give_the_densities_of_the_whole(lockstep: Callable[..., None]) -> None:
    volumes, _, _, shifts = particles([0, 1], 20, snr=2.0, shift=1.5)
    seeds = torch.tensor([1, 25, 38])

    def model() -> PoseMixture:
        return PoseMixture(BOX, TILTS, schedule=SHORT, max_shift=3.0, empty=True)

    *_, alone = model().fit(shard_of(volumes), seeds, seeded, shifts=shifts)
    cuts, found = [slice(0, 25), slice(25, 40)], {}

    def work(rank: int, reduce: Reduce) -> None:
        mine = volumes[cuts[rank]]
        shard = ParticleShard(lambda rows: mine[rows], len(mine), cuts[rank].start, 40, reduce)
        *_, found[rank] = model().fit(shard, seeds, seeded, shifts=shifts[cuts[rank]])

    lockstep(2, work)
    assert torch.equal(torch.cat([found[0].labels, found[1].labels]), alone.labels)
    torch.testing.assert_close(
        found[0].parameters.templates, found[1].parameters.templates, rtol=0, atol=0
    )
    scale = float(alone.parameters.templates.abs().max())
    torch.testing.assert_close(
        found[0].parameters.templates, alone.parameters.templates, rtol=0, atol=0.02 * scale
    )


@pytest.mark.parametrize("box", [4, 5, 9])
def test_small_and_odd_boxes_and_a_single_particle(box: int) -> None:
    volumes = standardise(torch.randn(1, 1, box, box, box, generator=generator(14)))
    state = fitted(PoseMixture(box, TILTS, schedule=SHORT, empty=True), volumes, [0])
    parameters: Parameters = state.parameters
    for tensor in (parameters.templates, parameters.weights, parameters.noise):
        assert bool(torch.isfinite(tensor).all())
