"""From clusters to densities: the last step, where particles are compared after being aligned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cryoet_core.algorithms.centring import Centring
from cryoet_core.algorithms.mixtures.gmm import plus_plus
from cryoet_core.algorithms.pose_mixture import Parameters, ParticleShard, PoseMixture, State
from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_disca.config import DiscaConfig

CHECKPOINT = "refine"
LEAST_PARTICLES = 5


@dataclass
class Sample:
    """The particles that densities are learnt from, and this process's share of them."""

    rows: Tensor  # (m,) of all volumes, the same on every process
    points: Tensor  # (m, d) their clustering points
    mine: Tensor  # (m',) rows within this process's volumes


def draw_sample(points: Tensor, first: int, count: int, most: int, run: Run) -> Sample:
    """At most ``most`` of all particles; points (n, d) are those of all processes, ours ``count``
    from ``first``.
    """
    rows = (
        torch.randperm(len(points), generator=run.generator("refine sample"))[:most].sort().values
    )
    mine = rows[(rows >= first) & (rows < first + count)] - first
    return Sample(rows, points[rows.to(points.device)], mine)


def mixture(data: Any, config: DiscaConfig, run: Run) -> PoseMixture:
    """The pose mixture for a data set's box, voxel size and tilt series."""
    radius = data.box / 2 - 1
    if config.mask_diameter > 0:
        radius = min(radius, config.mask_diameter / data.voxel_size / 2)
    return PoseMixture(
        data.box,
        data.tilt_range,
        tilt_axis=data.tilt_axis,
        mask_radius=radius,
        max_shift=config.max_shift,
        empty=config.empty,
        device=run.device,
    )


def refine(
    model: PoseMixture,
    volumes: DeviceVolumes,
    sample: Sample,
    centring: Centring,
    config: DiscaConfig,
    run: Run,
) -> State:
    """Fit the densities, going on from the run's checkpoint where there is one."""
    first = int((run.all_gather(torch.tensor([len(sample.mine)]))[: run.rank]).sum())
    shard = ParticleShard(
        lambda rows: volumes[sample.mine[rows]],
        len(sample.mine),
        first,
        len(sample.rows),
        run.all_reduce,
    )
    shifts = torch.cat([centring.shifts(volumes[rows]) for rows in sample.mine.split(256)])
    saved = run.load(CHECKPOINT)
    start = (
        None
        if saved is None
        else state_from(saved[0], saved[1], slice(first, first + shard.n), run.device)
    )
    # A density needs some particles, or it shows one particle's noise.
    count = max(1, min(config.components, len(sample.rows) // LEAST_PARTICLES))
    seeds = spread(sample.points.float().cpu(), count, run)
    state = start
    run.say(f"aligning {len(sample.rows)} subtomograms to {len(seeds)} densities")
    fits = model.fit(shard, seeds, lambda i: run.generator("refine", i), shifts=shifts, start=start)
    for state in fits:
        fact = state.history[-1]
        run.log(
            phase="refine",
            step=state.iteration,
            log_evidence=fact["log_evidence"],
            k=int(fact["k"]),
        )
        every = run.all_gather(torch.cat([state.shifts, state.labels[:, None].float()], 1))
        run.save(CHECKPOINT, *state_to(state, every))
    assert state is not None
    return state


def without_idle_empty(parameters: Parameters, n: int) -> Parameters:
    """Without the empty component where it took less than one of the n particles."""
    k = len(parameters.templates)
    if len(parameters.weights) == k or float(parameters.weights[-1]) * n >= 1:
        return parameters
    weights = parameters.weights[:k]
    return Parameters(parameters.templates, weights / weights.sum(), parameters.noise)


def spread(points: Tensor, count: int, run: Run) -> Tensor:
    """Rows of particles that lie far apart among the clustering points: a neighbour of each of some
    far points.
    """
    generator = run.generator("seeds")
    centres = plus_plus(points, [count], generator)[0]
    nearest = torch.cdist(points, centres).argmin(1)
    chosen = []
    for place in range(count):
        members = (nearest == place).nonzero()[:, 0]
        if len(members):
            chosen.append(members[torch.randint(len(members), (1,), generator=generator)])
    return torch.cat(chosen)


def state_to(state: State, every: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts for a checkpoint; ``every`` (n, 4) are shifts and labels of all
    processes.
    """
    parameters = state.parameters
    tensors = {
        "templates": parameters.templates.contiguous(),
        "weights": parameters.weights,
        "noise": parameters.noise,
        "particles": every,
    }
    return tensors, {"iteration": state.iteration, "history": state.history, "spread": state.spread}


def state_from(
    tensors: dict[str, Tensor], facts: dict[str, Any], rows: slice, device: torch.device
) -> State:
    parameters = Parameters(
        *(tensors[name].to(device) for name in ("templates", "weights", "noise"))
    )
    particles = tensors["particles"][rows].to(device)
    return State(
        facts["iteration"],
        parameters,
        particles[:, :3],
        facts["spread"],
        particles[:, 3].long(),
        list(facts["history"]),
    )
