"""The hybrid network: sizes, where it starts, how far it looks, and tiles that equal the whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cryoet_pu_picker import heat
from cryoet_pu_picker.bands import Bands
from cryoet_pu_picker.heat import heat_map
from cryoet_pu_picker.network import LOWEST_START, Columns, Filter, HybridNetwork

from cryoet_core.support.progress import Terminal
from cryoet_core.tomograms import ArrayVolume, Tomogram


def network(
    backbone: str = "unet",
    levels: int = 2,
    species: int = 1,
    widths: tuple[float, ...] = (0.7,),
    balls: tuple[float, ...] = (),
) -> HybridNetwork:
    """A small one with weights of usual size and statistics of its own, in eval mode."""
    torch.manual_seed(0)
    net = HybridNetwork(
        backbone, 4, levels, 8, (0.1,) * species, Bands(widths, clip=4.0, balls=balls)
    )
    torch.nn.init.normal_(net.heat.weight, std=0.3)
    with torch.no_grad():
        net(net.bands(torch.randn(4, 1, 3, 32, 32)))
        if net.gain is not None:
            net.gain.copy_(torch.tensor([0.7, -1.3])[: len(balls)])
            torch.nn.init.normal_(net.filters)
    return net.eval()


@pytest.mark.parametrize("backbone", ["unet", "resnet"])
@pytest.mark.parametrize("size", [(1, 16, 16), (3, 17, 23), (5, 40, 31)])
def test_sizes(backbone: str, size: tuple[int, int, int]) -> None:
    d, h, w = size
    net = network(backbone, levels=3, species=2, widths=())
    logits, features = net(net.bands(torch.randn(2, 1, d, h, w)))
    assert logits.shape == (2, 2, d, -(-h // 2), -(-w // 2))
    assert features.shape == (2, 8, d, -(-h // 2), -(-w // 2))
    torch.testing.assert_close(features.norm(dim=1), torch.ones_like(features[:, 0]))


def test_number_of_weights_is_that_of_the_reference_code() -> None:
    """unet_4 has 1,991,504 and unet_5 7,828,048; ours has a bias and no head for classes more."""
    for levels, expected in ((4, 1_991_504), (5, 7_828_048)):  # without bands
        net = HybridNetwork("unet", 32, levels, 32, (0.1,), Bands((), clip=4.0))
        assert sum(p.numel() for p in net.parameters()) == expected + 1


@pytest.mark.parametrize("prior", [0.01, 0.3])
def test_the_heat_map_starts_at_the_prior_or_where_it_still_learns(prior: float) -> None:
    torch.manual_seed(1)
    net = HybridNetwork("unet", 4, 2, 8, (prior, 0.1), Bands((1.0,), clip=4.0))
    first = net.logits(torch.randn(1, 1, 4, 32, 32)).detach().sigmoid()
    assert float(first[:, 0].mean()) == pytest.approx(max(prior, LOWEST_START), rel=0.1)
    assert float(first[:, 1].mean()) == pytest.approx(0.1, rel=0.1)


def test_an_untrained_network_ranks_as_its_filters_and_gives_typical_labels_even_odds() -> None:
    torch.manual_seed(1)
    net = HybridNetwork("unet", 4, 2, 8, (0.05, 0.1), Bands((1.0,), 4.0, balls=(5.0, 7.0)))
    net.heat.weight.data.zero_()
    weights = torch.tensor([0.5, -2.0, 1.0, 0.0])
    net.trust([Filter(weights, 4.0), Filter(weights, -1.0)])
    assert net.gain is not None
    assert net.gain.tolist() == pytest.approx([np.log(0.95 / 0.05) / 4, 0])
    volume = torch.randn(1, 1, 5, 20, 23)
    logits = net.logits(volume)[0].detach().double()
    answers = np.tensordot(weights.numpy(), net.bands(volume)[0].double().numpy(), 1)
    cells = [
        [answers[:, y : y + 2, x : x + 2].mean((1, 2)) for x in range(0, 23, 2)]
        for y in range(0, 20, 2)
    ]
    expected = (np.moveaxis(cells, 2, 0) / 4 - 1) * np.log(0.95 / 0.05)
    np.testing.assert_allclose(logits[0].numpy(), expected, atol=1e-5)
    torch.testing.assert_close(logits[1], torch.full_like(logits[1], -np.log(9.0)))
    net.trust([Filter(weights, 1e-3)] * 2)  # so weak that it is noise
    assert net.gain.tolist() == [1, 1]
    torch.testing.assert_close(net(net.bands(volume))[0], net.logits(volume))


def test_turns_are_the_mean_of_four_views() -> None:
    net = network(balls=(3.0,))
    volume = torch.randn(1, 1, 4, 30, 21, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        found = net.logits(volume, turns=True)
        bands = torch.nn.functional.pad(
            net.bands(volume), (0, 3, 0, 2, 0, 0), mode="replicate"
        )  # whole blocks of 4
        views = [net(bands.flip(axes))[0].flip(axes) for axes in ((), (2, 3), (2, 4), (3, 4))]
        mean = torch.stack(views).double().mean(0).float()
        torch.testing.assert_close(found, mean[..., :15, :11])
        whole = volume[..., :28, :20]
        for axes in ((2, 3), (2, 4), (3, 4)):  # a volume turned has its heat map turned
            torch.testing.assert_close(
                net.logits(whole.flip(axes), True), net.logits(whole, True).flip(axes)
            )


def test_columns_are_a_convolution_along_z() -> None:
    layer = Columns(3, 5, 3)
    x = torch.randn(2, 3, 6, 4, 5)
    expected = torch.nn.functional.conv3d(x, layer.weight[..., None], layer.bias, padding=(1, 0, 0))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("backbone", "levels", "balls", "turns"),
    [
        ("unet", 1, (), False),
        ("unet", 2, (9.0,), True),
        ("unet", 3, (), True),
        ("resnet", 3, (4.0,), False),
    ],
)
def test_nothing_beyond_the_margin_matters(
    backbone: str, levels: int, balls: tuple[float, ...], turns: bool
) -> None:
    """Changing one voxel changes the heat map within the margin only, in every direction."""
    net = network(backbone, levels, balls=balls)
    deep, reach, _ = net.margin
    size = -(-(2 * reach + 40) // net.alignment) * net.alignment
    volume = torch.randn(1, 1, 2 * deep + 3, size, 8, generator=torch.Generator().manual_seed(2))
    place = (deep + 1, reach + 20, 4)
    changed = volume.clone()
    changed[(0, 0, *place)] += 3
    with torch.no_grad():
        different = (net.logits(volume, turns) != net.logits(changed, turns))[0, 0]
    z, y = different.any(2).nonzero().T
    assert len(z) > 0
    assert int((z - place[0]).abs().max()) <= deep
    assert int((2 * y - place[1]).abs().max()) <= reach


def fake_run(folder: Path, max_memory: int) -> Any:
    from contextlib import nullcontext

    return SimpleNamespace(
        scratch=folder,
        device=torch.device("cpu"),
        max_memory=max_memory,
        progress=Terminal(silent=True, to_stderr=False).progress,
        autocast=nullcontext,
    )


@pytest.mark.parametrize(
    ("backbone", "whole", "turns"),
    [("unet", True, True), ("unet", False, True), ("resnet", False, False)],
)
def test_tiles_equal_the_whole(
    backbone: str, whole: bool, turns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slabs of whole slices and in blocks, for a volume whose edges are no multiples of
    anything.
    """
    net = network(backbone, levels=2, species=2, balls=(2.0, 2.5))
    d, h, w = (15, 93, 119) if backbone == "unet" else (11, 161, 177)
    values = np.random.default_rng(0).normal(size=(d, h, w)).astype(np.float32)
    tomogram = Tomogram("t", ArrayVolume(values), 10.0)
    monkeypatch.setattr(heat, "LARGEST_SLICE", 1 << 20 if whole else 1)
    few = heat_map(net, tomogram, fake_run(tmp_path / "a", 1 << 40), turns=turns)
    budget = 15 * 96 * 120 if whole else 700_000
    many = heat_map(net, tomogram, fake_run(tmp_path / "b", budget * 1024), turns=turns)
    assert few.shape == many.shape == (2, d, -(-h // 2), -(-w // 2))
    np.testing.assert_allclose(many, few, atol=1e-5)
    # and both equal the network on the bare volume away from its faces
    mean, deviation = tomogram.statistics()
    with torch.no_grad():
        plain = (
            net.logits(torch.from_numpy((values - mean) / deviation)[None, None], turns)
            .sigmoid()[0]
            .numpy()
        )
    deep, far = net.margin[0], net.margin[1] // 2 + 1
    near = 0 if whole else far
    inner = (slice(None), slice(deep, d - deep), slice(near, -far), slice(near, -far))
    assert few[inner].size > 0
    np.testing.assert_allclose(few[inner], plain[inner], atol=1e-5)
