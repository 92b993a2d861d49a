"""A mixture of densities in unknown poses: clusters subtomograms by what they look like once they
are aligned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cryoet_core.algorithms.centring import LEAST_SPREAD, peak, soft_sphere, translate
from cryoet_core.algorithms.pose_mixture.band import FrequencyBand, TiltRange
from cryoet_core.algorithms.pose_mixture.components import (
    fit_to,
    recentred,
    select,
    survivors,
    with_empty,
)
from cryoet_core.algorithms.pose_mixture.em import (
    Parameters,
    PoseWeights,
    Sums,
    balanced,
    expectation,
    maximisation,
    sums,
    views,
)
from cryoet_core.algorithms.pose_mixture.state import (
    SCHEDULE,
    Assignment,
    ParticleShard,
    Reduce,
    RefinementStage,
    Source,
    State,
    plan,
)
from cryoet_core.algorithms.transforms import random_rotations, rotation_grid

_SPLIT = (RefinementStage(6, 24.0, 5, balance=True), RefinementStage(6, 24.0, 2, merge=0.15))
_SPLIT_SEEDS = 3
_BALANCE = 30
"""Rounds in which balanced shares are found."""
_APPROACH = (0.5, 0.75)
"""Shares of the last radius at which ``label`` first moves particles; on eight complexes off-centre
by up to 4 voxels these two and the last assign 0.985, the last alone, twice, 0.963."""
_TRIAL, _TRIAL_SEEDS = 400, 8
"""Particles and densities on which it is tried whether particles have to be moved."""


class PoseMixture:
    """Expectation maximisation over component, rotation and shift of every particle.

    box: edge of the cubes in voxels. tilt_range: degrees about tilt_axis, None if nothing is
    missing. mask_radius: voxels, what lies further from the particle's centre is ignored.
    max_shift: voxels, 0 keeps particles in place. empty: adds a component without density, for
    cubes that hold no particle.
    """

    def __init__(
        self,
        box: int,
        tilt_range: TiltRange,
        *,
        tilt_axis: str = "y",
        schedule: Sequence[RefinementStage] = SCHEDULE,
        mask_radius: float | None = None,
        max_shift: float = 0.0,
        empty: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.box, self.tilt_range, self.tilt_axis, self.device = (
            box,
            tilt_range,
            tilt_axis,
            torch.device(device),
        )
        self.schedule = tuple(schedule)
        self.mask_radius = box / 2 - 1 if mask_radius is None else mask_radius
        self.max_shift, self.empty = max_shift, empty
        self.mask = soft_sphere(box, self.mask_radius, device=self.device)
        self._kept: tuple[ParticleShard, Tensor, int, Tensor] | None = None

    # ---- fit -------------------------------------------------------------------------------------

    def fit(
        self,
        shard: ParticleShard,
        seeds: Tensor,
        generator: Callable[[int], torch.Generator],
        *,
        shifts: Tensor | None = None,
        start: State | None = None,
    ) -> Iterator[State]:
        """Yield the state after every iteration.

        seeds: rows (in the whole set) of the particles that start the components. ``generator(i)``
        gives the random numbers of iteration i. shifts (n, 3): first guess for this shard.
        ``start`` continues a fit where it was.
        """
        state = start
        if state is None:
            state = self._opening(shard, seeds, shifts, generator)
            yield state
        for number, (stage, first) in enumerate(plan(self.schedule), start=1):
            if state.iteration >= number:
                continue
            if first and stage.split:
                state = self._split(shard, state, generator(number))
            state = self._iterate(shard, stage, state, generator(number))
            yield state

    def _opening(
        self,
        shard: ParticleShard,
        seeds: Tensor,
        shifts: Tensor | None,
        generator: Callable[[int], torch.Generator],
    ) -> State:
        """The first stage, particles as they lie or moved by ``shifts``, whichever explains a
        sample of them better.

        The centre of an irregular particle is a matter of definition, so the shifts alone do not
        tell whether moving particles helps; the evidence of the densities that come out does.
        """
        origin = torch.zeros(shard.n, 3, device=self.device)
        if shifts is not None and self.max_shift > 0:
            few = seeds[:_TRIAL_SEEDS]
            others = torch.randperm(shard.total, generator=generator(0))[: _TRIAL - len(few)]
            rows = torch.cat([few, others]).unique()
            part = shard.part(rows)
            mine = rows[(rows >= shard.first) & (rows < shard.first + shard.n)] - shard.first
            trials = []
            for guess in (origin, shifts.to(self.device)):
                start = self._begin(
                    part,
                    torch.searchsorted(rows, few),
                    guess[mine.to(self.device)],
                    self.schedule[0],
                )
                trials.append(self._stage(part, start, generator).history[-1]["log_evidence"])
            if trials[1] > trials[0]:
                origin = shifts.to(self.device)
        state = self._stage(shard, self._begin(shard, seeds, origin, self.schedule[0]), generator)
        return replace(state, parameters=with_empty(state.parameters)) if self.empty else state

    def _stage(
        self, shard: ParticleShard, state: State, generator: Callable[[int], torch.Generator]
    ) -> State:
        for number in range(1, self.schedule[0].iterations + 1):
            state = self._iterate(shard, self.schedule[0], state, generator(number))
        return state

    def _begin(
        self, shard: ParticleShard, seeds: Tensor, shifts: Tensor, stage: RefinementStage
    ) -> State:
        """One noisy particle per component breaks the symmetry that any average over random
        orientations has.
        """
        band = self._band(stage)
        power = torch.zeros(band.radius + 1, device=self.device)
        for rows in torch.arange(shard.n).split(256):
            values = band.coefficients(band.crop(self._masked(shard.source(rows), shifts[rows])))
            power += band.shell_mean(values[:, band.seen].abs().square(), band.seen).sum(0)
        noise = shard.reduce(power) / shard.total
        noise[0] = noise[1]
        every = torch.stack([shard.everywhere(shifts[:, axis]) for axis in range(3)], 1)
        volumes = shard.gather(seeds, self.box, self.device)
        volumes = self._masked(volumes, every[seeds.to(self.device)])
        templates = 0.3 * band.volumes(band.coefficients(band.crop(volumes)))
        weights = torch.full((len(seeds),), 1 / len(seeds), device=self.device)
        labels = torch.zeros(shard.n, dtype=torch.long, device=self.device)
        spread = float((every.square().mean()).sqrt())
        spread = max(spread, LEAST_SPREAD) if spread > 0 else 0.0
        return State(0, Parameters(templates, weights, noise), shifts, spread, labels)

    def _iterate(
        self, shard: ParticleShard, stage: RefinementStage, state: State, generator: torch.Generator
    ) -> State:
        band = self._band(stage)
        parameters = fit_to(state.parameters, band)
        # Turning the whole grid each time keeps its gaps from being always the same poses.
        rotations = (rotation_grid(stage.step) @ random_rotations(1, generator)).to(self.device)
        small = self._cropped_once(band, shard, state.shifts)
        seen = views(band, small, parameters.templates, parameters.noise, rotations)
        weights = parameters.weights
        if stage.balance:
            rest = weights[len(parameters.templates) :]
            weights = torch.cat(
                [balanced(seen.log_evidence, _BALANCE, shard.reduce) * (1 - rest.sum()), rest]
            )
        poses = seen.poses(weights)
        total = Sums(*_reduced(sums(band, small, poses, weights, rotations), shard.reduce))
        mask = soft_sphere(band.small, self.mask_radius * band.small / self.box, device=self.device)
        fitted = maximisation(band, total, mask, parameters.noise, shard.total)
        mixed = poses.log_evidence + weights.log()
        # of the model as it came in: balanced shares say nothing about the particles
        evidence = (
            float(shard.reduce((poses.log_evidence + parameters.weights.log()).logsumexp(1).sum()))
            / shard.total
        )
        moved, spread = state.shifts, state.spread
        if spread > 0 and stage.move:
            templates, centres = recentred(fitted.templates)
            fitted = replace(fitted, templates=templates)
            centres = centres * (self.box / band.small)
            moved = self._moved(band, small, poses, parameters, rotations, moved, spread, centres)
            spread = max(
                float((shard.reduce(moved.square().sum()) / (3 * shard.total)).sqrt()), LEAST_SPREAD
            )
        keep = survivors(mixed, len(parameters.templates), stage.merge, shard.reduce)
        fitted = select(fitted, keep, len(parameters.templates))
        places = torch.cat(
            [keep, torch.arange(len(parameters.templates), mixed.shape[1], device=mixed.device)]
        )
        labels = mixed[:, places].argmax(1)
        fact = {"log_evidence": evidence, "k": float(len(keep)), "radius": float(band.radius)}
        return State(state.iteration + 1, fitted, moved, spread, labels, [*state.history, fact])

    def _split(self, shard: ParticleShard, state: State, generator: torch.Generator) -> State:
        """Start each component's own particles afresh from a few seeds; where several remain, they
        take its place.
        """
        labels = shard.everywhere(state.labels)
        count = len(state.parameters.templates)
        known = fit_to(state.parameters, self._band(_SPLIT[0]))
        templates, weights = [], []
        for component in range(count):
            rows = (labels == component).nonzero()[:, 0].cpu()
            found = (
                known.templates[component : component + 1],
                state.parameters.weights[component : component + 1],
            )
            parts = self._apart(shard, rows, state.shifts, found, generator)
            templates.append(parts[0])
            weights.append(parts[1])
        parameters = Parameters(
            torch.cat(templates),
            torch.cat([*weights, state.parameters.weights[count:]]),
            state.parameters.noise,
        )
        return replace(state, parameters=parameters)

    def _apart(
        self,
        shard: ParticleShard,
        rows: Tensor,
        shifts: Tensor,
        found: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """The templates and weights that some particles come apart into, and these again: two seeds
        may be of one kind.

        ``found`` is what explains the particles now; it comes back where they do not come apart.
        """
        if len(rows) < 4 * _SPLIT_SEEDS:
            return found
        part = shard.part(rows)
        seeds = torch.randperm(len(rows), generator=generator)[:_SPLIT_SEEDS]
        mine = rows[(rows >= shard.first) & (rows < shard.first + shard.n)] - shard.first
        inner = self._begin(part, seeds, shifts[mine.to(self.device)], _SPLIT[0])
        inner = replace(inner, spread=0.0)  # nothing moves here
        for stage, _ in plan(_SPLIT):
            inner = self._iterate(part, stage, inner, generator)
        templates, weights = inner.parameters.templates, inner.parameters.weights * found[1]
        if len(templates) == 1:
            return found
        labels = part.everywhere(inner.labels).cpu()
        parts = [
            self._apart(
                shard,
                rows[labels == c],
                shifts,
                (templates[c : c + 1], weights[c : c + 1]),
                generator,
            )
            for c in range(len(templates))
        ]
        return torch.cat([t for t, _ in parts]), torch.cat([w for _, w in parts])

    def _band(self, stage: RefinementStage) -> FrequencyBand:
        return FrequencyBand(self.box, stage.radius, self.tilt_range, self.device, self.tilt_axis)

    # ---- use -------------------------------------------------------------------------------------

    def label(
        self, source: Source, n: int, parameters: Parameters, shifts: Tensor, spread: float
    ) -> Assignment:
        """Class probabilities and best poses of n volumes; shifts (n, 3) are a first guess,
        ``spread`` their prior.

        The rotation grid is as it is, so a volume's answer depends on no other volume.
        """
        shifts = shifts if spread > 0 else torch.zeros_like(shifts)
        last = self.schedule[-1]
        stages = [last]
        if (
            spread > 0
        ):  # low frequencies see further: a particle a few voxels away is drawn in by them alone
            coarse = [
                replace(self.schedule[0], radius=max(1, round(part * last.radius)))
                for part in _APPROACH
            ]
            stages = [*coarse, last]
        for stage in stages:
            band = self._band(stage)
            fitted = fit_to(parameters, band)
            rotations = rotation_grid(stage.step).to(self.device)
            small = self._cropped(band, source, n, shifts)
            poses = expectation(
                band, small, fitted.templates, fitted.weights, fitted.noise, rotations, 1
            )
            if spread > 0:
                shifts = self._moved(band, small, poses, fitted, rotations, shifts, spread)
        shares = (poses.log_evidence + parameters.weights.log()).softmax(1)
        return Assignment(shares, rotations[poses.rotation[:, 0]], shifts)

    # ---- particles -------------------------------------------------------------------------------

    def _cropped_once(self, band: FrequencyBand, shard: ParticleShard, shifts: Tensor) -> Tensor:
        """As ``_cropped``, kept while stage, particles and shifts stay the same."""
        if (
            self._kept is None
            or self._kept[0] is not shard
            or self._kept[1] is not shifts
            or self._kept[2] != band.radius
        ):
            self._kept = (
                shard,
                shifts,
                band.radius,
                self._cropped(band, shard.source, shard.n, shifts),
            )
        return self._kept[3]

    def _cropped(self, band: FrequencyBand, source: Source, n: int, shifts: Tensor) -> Tensor:
        parts = [
            band.crop(self._masked(source(rows), shifts[rows])).half()
            for rows in torch.arange(n).split(256)
        ]
        return torch.cat(parts)

    def _masked(self, volumes: Tensor, shifts: Tensor) -> Tensor:
        """(b, 1, s, s, s) -> (b, s, s, s): particles moved to the box centre, the surroundings
        faded out.
        """
        volumes = volumes[:, 0]
        if bool((shifts != 0).any()):
            volumes = translate(volumes, -shifts)
        return volumes * self.mask

    def _moved(
        self,
        band: FrequencyBand,
        small: Tensor,
        poses: PoseWeights,
        parameters: Parameters,
        rotations: Tensor,
        shifts: Tensor,
        spread: float,
        centres: Tensor | None = None,
    ) -> Tensor:
        """Shifts improved by the cross-correlation with the best view of the best component, under
        their prior.

        centres (k, 3), voxels: where each density has what will be its centre; the particles'
        shifts follow.
        """
        precision = 1 / parameters.noise[band.shell]
        spectra = band.spectrum(parameters.templates)
        out = shifts.clone()
        for rows in torch.arange(len(small), device=small.device).split(128):
            turn = rotations[poses.rotation[rows, 0]]
            points = band.points @ turn
            views = band.sample(spectra[poses.component[rows, 0]], points)[:, 0]
            view = torch.complex(views[:, 0], views[:, 1]) * precision * band.seen
            product = band.coefficients(small[rows]) * view.conj()
            # volumes() sums both halves of the spectrum over small^3; the score of ``expectation``
            # sums one half
            maps = torch.fft.ifftshift(band.volumes(product), dim=(1, 2, 3)) * (band.small**3 / 2)
            voxel = self.box / band.small
            out[rows] += peak(maps, 2 * voxel, spread, shifts[rows], voxel)
            if centres is not None:
                out[rows] += (turn @ centres[poses.component[rows, 0], :, None])[..., 0]
        length = out.norm(dim=1, keepdim=True)
        limited: Tensor = out * (self.max_shift / length.clamp(min=1e-6)).clamp(max=1.0)
        return limited


def _reduced(stats: Sums, reduce: Reduce) -> list[Tensor]:
    signal, coverage, power, share = (reduce(tensor) for tensor in stats.tensors())
    return [torch.view_as_complex(signal), coverage, power, share]
