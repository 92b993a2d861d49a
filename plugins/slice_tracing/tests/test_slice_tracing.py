"""The slice detector: targets, loss, tiles, and balls found in a tomogram; the conformance kit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryoet_slice_tracing.network import REACH, Detector
from cryoet_slice_tracing.slice_tracing import SlicePicker, SliceTracing
from cryoet_slice_tracing.training import focal_loss, target

from cryoet_core.runs.run import Run
from cryoet_core.testing import conformance, harness
from cryoet_core.testing.data import DIAMETER, VOXEL_SIZE
from cryoet_core.tomograms import ArrayVolume, Tomogram


@pytest.mark.parametrize("check", conformance("slice_tracing"))
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_the_balls_of_the_kit_are_found(tmp_path: Path) -> None:
    fitted, paths = harness.base_fit(SliceTracing, tmp_path)
    truth = harness.opened(SliceTracing, paths)["data"].picks
    near = np.linalg.norm(fitted.answer.positions[:, None] - truth.positions, axis=2)
    near[fitted.answer.tomograms[:, None] != truth.tomograms] = np.inf
    assert (near.min(0) < DIAMETER / 4).mean() > 0.9
    assert (near.min(1) < DIAMETER / 4).mean() > 0.9
    offset = fitted.answer.positions - truth.positions[near.argmin(1)]
    assert np.abs(offset[near.min(1) < DIAMETER / 4].mean(0)).max() < VOXEL_SIZE / 2


def test_a_target_is_one_at_the_nearest_value_and_the_larger_of_two() -> None:
    heat = target(torch.tensor([[10.2, 20.6], [10.2, 24.0]]), 32, 2.0)
    assert heat.shape == (16, 16)
    assert heat[5, 10] == 1
    assert heat[5, 12] == 1
    assert heat[5, 11] == pytest.approx(np.exp(-0.5))
    assert target(torch.zeros(0, 2), 32, 2.0).max() == 0


def test_a_turned_slice_gives_a_turned_heat_map_where_the_network_is_symmetric() -> None:
    torch.manual_seed(0)
    network = Detector(8).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            weight = module.weight.data
            module.weight.data = sum(weight.rot90(n, (2, 3)) for n in range(4))
    slices = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(
        network(slices.rot90(1, (2, 3))), network(slices).rot90(1, (2, 3)), rtol=1e-3, atol=1e-3
    )


def test_the_loss_is_its_formula_and_its_gradient_that_of_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64).requires_grad_()
    wanted = torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    wanted[0, 0, 3, 3] = wanted[1, 0, 5, 2] = 1.0
    p = 1 / (1 + torch.exp(-logits))
    plain = (
        -torch.where(
            wanted == 1, (1 - p) ** 2 * torch.log(p), (1 - wanted) ** 4 * p**2 * torch.log(1 - p)
        ).sum()
        / 2
    )
    single = logits.detach().float().requires_grad_()
    ours = focal_loss(single, wanted.float())
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(ours, single)[0].double(),
        torch.autograd.grad(plain, logits)[0],
        rtol=1e-4,
        atol=1e-6,
    )


def test_a_value_depends_on_no_voxel_beyond_the_reach() -> None:
    torch.manual_seed(0)
    network = Detector(8).eval()
    slices = torch.randn(1, 1, 256, 8).requires_grad_()
    network(slices)[0, 0, 64, 2].backward()
    rows = slices.grad[0, 0].abs().sum(1).nonzero()[:, 0]  # type: ignore[index]
    assert 128 - int(rows.min()) <= REACH
    assert int(rows.max()) - 128 <= REACH


def test_tiles_give_what_the_whole_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = SliceTracing.Config.from_layers(
        "fast", {}, {**SliceTracing.tiny, "confidence": 0.001, "min_length": 0.1}
    )
    picker = SlicePicker(Detector(8).eval(), config, "ball")
    volume = np.random.default_rng(0).normal(0, 1, (3, 120, 300)).astype(np.float32)
    tomogram = Tomogram("one", ArrayVolume(volume), VOXEL_SIZE)
    answers = [
        picker.pick(tomogram, run(tmp_path / f"{size}", size)) for size in (1 << 34, 1 << 26)
    ]
    assert len(answers[0]) > 20
    np.testing.assert_allclose(answers[0].positions, answers[1].positions, atol=1e-2)
    np.testing.assert_allclose(answers[0].scores, answers[1].scores, atol=1e-5)


def run(folder: Path, max_memory: int) -> Any:
    config = SliceTracing.Config()
    return Run.create(
        "slice_tracing", config, {}, folder, device="cpu", max_memory=max_memory, quiet=True
    )
