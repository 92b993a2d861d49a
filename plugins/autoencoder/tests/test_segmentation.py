"""The segmentation network: voxels, tiles without seams, and what training must teach it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cryoet_autoencoder.segmentation_network import MARGIN, EncoderDecoder3D
from cryoet_autoencoder.segmentation_training import augmented, class_weights, unweigh, voxel_loss
from cryoet_autoencoder.segmenting import on_grid, segmented

from cryoet_core.support.progress import Terminal
from cryoet_core.tomograms import Tomogram
from cryoet_core.tomograms.volume import ArrayVolume


def network(classes: int = 3, bin: int = 1, seed: int = 0) -> EncoderDecoder3D:
    torch.manual_seed(seed)
    made = EncoderDecoder3D(classes, 6, bin).eval()
    for parameter in made.parameters():  # livelier than at the start, so that classes alternate
        parameter.data *= 1.8
    return made


def run_with(folder: Path, memory: int) -> Any:
    """What segmenting asks of a run; ``memory`` decides how large tiles are."""
    terminal = Terminal(silent=True, to_stderr=False)
    made = SimpleNamespace(
        device=torch.device("cpu"), max_memory=memory, scratch=folder, progress=terminal.progress
    )
    made.autocast = lambda: torch.autocast("cpu", enabled=False)
    return made


def tomogram(shape: tuple[int, int, int], voxel_size: float = 10.0) -> Tomogram:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Tomogram("t", ArrayVolume(values), voxel_size)


@pytest.mark.parametrize("bin", [1, 2])
def test_every_voxel_has_probabilities_that_sum_to_one(bin: int) -> None:
    for shape in ((16, 16, 16), (9, 14, 21)):
        logits = network(4, bin)(torch.randn(2, 1, *shape))
        assert logits.shape == (2, 4, *(n // bin for n in shape))
        torch.testing.assert_close(
            logits.softmax(1).sum(1), torch.ones(2, *(n // bin for n in shape))
        )


def test_the_margin_is_as_far_as_a_block_sees() -> None:
    volume = torch.randn(
        1, 1, 44, 8, 8, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    reach = 0
    for seed in range(
        4
    ):  # a maximum passes one voxel only, so that one draw of weights does not show all
        (grown,) = torch.autograd.grad(network(seed=seed)(volume)[0, :, 20:24].sum(), volume)
        seen = grown[0, 0].abs().sum((1, 2)).nonzero()[:, 0]
        reach = max(reach, 20 - int(seen[0]), int(seen[-1]) - 23)
    assert reach == 11 < MARGIN


@pytest.mark.parametrize("bin", [1, 2])
def test_tiles_of_any_size_give_the_same_labels(bin: int, tmp_path: Path) -> None:
    made, whole = network(3, bin), tomogram((13, 30, 26))
    large, sure = segmented(made, whole, run_with(tmp_path / "large", 1 << 32))
    small, same = segmented(made, whole, run_with(tmp_path / "small", 1 << 22))
    assert large.shape == tuple(-(-n // bin) for n in whole.shape)
    assert len(np.unique(large)) > 1
    assert (large == small).mean() > 0.9999
    np.testing.assert_allclose(sure.astype(float), same.astype(float), atol=2e-3)


def test_the_inside_of_a_tomogram_is_what_the_network_says_of_it(tmp_path: Path) -> None:
    made, whole = network(), tomogram((28, 28, 28))
    labels, _ = segmented(made, whole, run_with(tmp_path, 1 << 32))
    mean, deviation = whole.statistics()
    direct = (
        made(torch.from_numpy((whole.read() - mean) / deviation)[None, None])[0].argmax(0).numpy()
    )
    inner = (slice(12, 16),) * 3
    assert (labels[inner] == direct[inner]).mean() > 0.999


def test_labels_come_to_the_tomograms_own_voxels() -> None:
    whole, seen = tomogram((9, 10, 11), 10.0), tomogram((5, 5, 6), 20.0)
    labels = np.arange(3 * 3 * 3, dtype=np.uint8).reshape(3, 3, 3)
    own = on_grid(labels, 2, seen, whole)
    assert own.shape == (9, 10, 11)
    assert own[0, 0, 0] == labels[0, 0, 0]
    assert own[8, 9, 10] == labels[2, 2, 2]
    np.testing.assert_array_equal(
        on_grid(labels, 1, tomogram((3, 3, 3)), tomogram((3, 3, 3))), labels
    )


def test_it_learns_what_is_bright_wherever_it_lies() -> None:
    """A threshold toy: cubes of blobs in the middle teach it to find blobs anywhere in a larger
    volume.
    """
    line = (torch.arange(16) - 8).float()
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    blob = torch.exp(-(z**2 + y**2 + x**2) / 16)
    random = torch.Generator().manual_seed(0)
    cubes = 4 * blob + 0.3 * torch.randn(24, 1, 16, 16, 16, generator=random)
    labels = (blob > 0.5).to(torch.uint8).expand(24, -1, -1, -1)
    torch.manual_seed(1)
    made = EncoderDecoder3D(2, 8, 1)
    weights = class_weights(labels.flatten().long().bincount().double(), "root")
    optimiser = torch.optim.Adam(made.parameters(), 4e-3)
    for step in range(100):
        batch, target = augmented(cubes[step % 6 * 4 :][:4], labels[step % 6 * 4 :][:4], random)
        optimiser.zero_grad()
        voxel_loss(made(batch), target, weights).backward()
        optimiser.step()
    unweigh(made, weights)
    large = 0.3 * torch.randn(1, 1, 48, 32, 32, generator=random)
    large[0, 0, 21:37, 3:19, 12:28] += 4 * blob
    truth = torch.zeros(48, 32, 32, dtype=torch.bool)
    truth[21:37, 3:19, 12:28] = blob > 0.5
    found = made.eval()(large)[0].argmax(0) > 0
    assert int((found & truth).sum()) > 0.9 * int(truth.sum())
    assert 2 * int((found & truth).sum()) / int(found.sum() + truth.sum()) > 0.6


def test_unweighing_gives_the_probabilities_of_the_data() -> None:
    made = EncoderDecoder3D(3, 2)
    torch.nn.init.zeros_(made.last.weight)
    shares = torch.tensor([0.7, 0.2, 0.1])
    weights = class_weights(1000 * shares, "balanced")
    made.last.bias.data = (shares * weights / (shares * weights).sum()).log().float()
    unweigh(made, weights)
    found = made(torch.zeros(1, 1, 4, 4, 4)).softmax(1)[0, :, 0, 0, 0]
    torch.testing.assert_close(found, shares, rtol=1e-4, atol=1e-5)


def test_a_class_without_voxels_is_not_preferred() -> None:
    made = EncoderDecoder3D(3, 2)
    before = made.last.bias.detach().clone()
    weights = class_weights(torch.tensor([700, 300, 0]), "root")
    assert weights[2] == 0
    unweigh(made, weights)
    assert made.last.bias[2] == before[2]


def test_cubes_and_labels_are_moved_and_mirrored_together() -> None:
    inside = torch.zeros(3, 6, 6, 6)
    inside[:, 1:3, 2:5, 3:4] = 1
    cubes = inside.repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)[:, None]
    seen = set()
    for seed in range(8):
        batch, labels = augmented(
            cubes, inside.to(torch.uint8), torch.Generator().manual_seed(seed)
        )
        bright = torch.nn.functional.avg_pool3d(batch, 2)[:, 0]
        middle = (bright.amax((1, 2, 3), keepdim=True) + bright.amin((1, 2, 3), keepdim=True)) / 2
        assert torch.equal(bright > middle, labels > 0)
        seen.add(tuple(labels[0].nonzero()[0].tolist()))
    assert len(seen) > 4
