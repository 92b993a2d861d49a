"""Picking as crYOLO-3D does it, with a small detector of our own: every slice by itself, then
traces through z.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from cryoet_core.algorithms.peaks import find_peaks
from cryoet_core.picks.table import Picks
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram, Tomograms
from cryoet_core.tomograms.tiles import score_map
from cryoet_slice_tracing.config import SliceTracingConfig
from cryoet_slice_tracing.network import OFFSET, REACH, STRIDE, Detector
from cryoet_slice_tracing.tracing import Detections, centres, link
from cryoet_slice_tracing.training import CLIP, batch, focal_loss, scene

MODEL, PROGRESS, SAVE_EVERY = "model", "training", 50
SLICES = 16
SPACING = 0.5
"""Detections in a slice are at least this share of the diameter apart."""
MULTIPLE = 8
"""Voxels per value of the network's coarsest level; FINER heat-map values lie along its edge."""
FINER = MULTIPLE // STRIDE
BYTES = 256
"""That the network needs per voxel of a tile."""


class SliceTracing(Trainer):
    name, task = "slice_tracing", "picking"
    summary = "a 2-D detector on every slice, linked through z: a stand-in for crYOLO-3D"
    inputs: ClassVar = {
        "data": InputSpec("tomograms with picks to learn from", kind="tomograms", labels="required")
    }
    Config = SliceTracingConfig
    tiny: ClassVar = {
        "diameter": 96.0,
        "voxels_across": 8.0,
        "iterations": 100,
        "learning_rate": 1e-2,
        "crop": 32,
        "width": 8,
        "batch_size": 8,
    }

    def fit(self, inputs: Mapping[str, Any], run: Run) -> SlicePicker:
        config: SliceTracingConfig = self.config
        if config.diameter <= 0:
            raise UserError(
                "`diameter`: not given; expected the particle's diameter in Å, for instance "
                "`diameter` 250"
            )
        if run.load(MODEL) is None:
            data: Tomograms = inputs["data"]
            assert data.voxel_size > 0  # refuses tomograms of several voxel sizes before any work
            scenes = [scene(tomogram, config) for tomogram in data]
            classes = {
                name
                for tomogram in data
                if tomogram.picks is not None
                for name in _classes(tomogram)
            }
            network = _train(scenes, config, run)
            state = {"class_name": classes.pop() if len(classes) == 1 else "particle"}
            run.save(MODEL, dict(network.state_dict()), state)
        return self.load(run)

    def load(self, run: Run) -> SlicePicker:
        found = run.load(MODEL)
        if found is None:
            raise UserError(
                f"{run.dir}: holds no model; the run was not finished; see cryoet resume"
            )
        network = Detector(self.config.width)
        network.load_state_dict(found[0])
        return SlicePicker(network.eval(), self.config, found[1]["class_name"])


class SlicePicker:
    def __init__(self, network: Detector, config: SliceTracingConfig, class_name: str) -> None:
        self.network, self.config = network, config
        self.class_names = (class_name,)

    def pick(self, tomogram: Tomogram, run: Run) -> Picks:
        """Centres by tracing; scores are the mean confidence of the slices."""
        config = self.config
        seen = tomogram.at(config.diameter / config.voxels_across)
        network = self.network.to(run.device)

        def heat(region: Tensor) -> Tensor:
            slices = region[0, 0].clamp(-CLIP, CLIP)[:, None]
            values = torch.cat([network(part).sigmoid() for part in slices.split(SLICES)])
            # tiles must begin where the network's coarsest level does: one value per MULTIPLE
            # voxels, the finer ones as channels
            return pixel_unshuffle(values, FINER).transpose(0, 1)[None]

        stride, margin = (
            (1, MULTIPLE, MULTIPLE),
            (0, -(-REACH // MULTIPLE) * MULTIPLE, -(-REACH // MULTIPLE) * MULTIPLE),
        )
        blocks = score_map(
            seen,
            heat,
            margin=margin,
            channels=FINER**2,
            stride=stride,
            run=run,
            name="confidence",
            working_bytes=BYTES,
        )
        heat_map = _together(blocks, seen.shape)
        found = _detections(heat_map, config)
        traces = link(found, config.search_range * config.voxels_across, config.memory)
        shortest, longest = (
            config.min_length * config.voxels_across,
            config.max_length * config.voxels_across,
        )
        positions, scores = centres(found, traces, shortest, longest)
        positions = np.clip(positions * seen.voxel_size, 0, tomogram.extent)
        return Picks.of(positions, tomogram.name, scores=scores, class_names=self.class_names)


def _train(scenes: list[Any], config: SliceTracingConfig, run: Run) -> Detector:
    """Adam on the focal loss; goes on from the last checkpoint of an interrupted run."""
    torch.manual_seed(run.generator("network").initial_seed())
    network = Detector(config.width).to(run.device)
    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
    done = _restore(network, optimiser, run)
    network.train()
    for step in run.progress(range(done, config.iterations), "training"):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * 0.1 ** (3 * step // config.iterations)
        slices, wanted = batch(scenes, config, run.generator("batch", step))
        loss = focal_loss(network(slices.to(run.device)), wanted.to(run.device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == config.iterations:
            run.log(step=step, loss=float(loss.detach()))
            _keep(network, optimiser, step + 1, run)
    return network.eval()


def _keep(network: Detector, optimiser: torch.optim.Adam, done: int, run: Run) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
    run.save(PROGRESS, tensors, {"done": done})


def _restore(network: Detector, optimiser: torch.optim.Adam, run: Run) -> int:
    saved = run.load(PROGRESS)
    if saved is None:
        return 0
    tensors, facts = saved
    network.load_state_dict(
        {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return int(facts["done"])


def _together(blocks: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Values (FINER^2, d, h / 8, w / 8) as one heat map (d, h / 2, w / 2)."""
    _, d, h, w = blocks.shape
    whole = (
        blocks.reshape(FINER, FINER, d, h, w)
        .transpose(2, 3, 0, 4, 1)
        .reshape(d, h * FINER, w * FINER)
    )
    cut: np.ndarray = whole[:, : -(-shape[1] // STRIDE), : -(-shape[2] // STRIDE)]
    return cut


def _detections(heat_map: np.ndarray, config: SliceTracingConfig) -> Detections:
    """The peaks of each slice (d, h / 2, w / 2), in voxels of the slice."""
    z, places, confidence = [], [], []
    for number, section in enumerate(heat_map):
        found, values = find_peaks(
            section[None],
            distance=SPACING * config.voxels_across / STRIDE,
            threshold=config.confidence,
        )
        z.append(np.full(len(found), number))
        places.append(found[:, 1:] * STRIDE + OFFSET)
        confidence.append(values)
    return Detections(np.concatenate(z), np.concatenate(places), np.concatenate(confidence))


def _classes(tomogram: Tomogram) -> set[str]:
    picks = tomogram.picks
    assert picks is not None
    return {picks.class_names[i] for i in set(picks.classes.tolist()) if i >= 0}
