"""The network: its size, what it answers, and what it must not see."""

from __future__ import annotations

import pytest
import torch
from cryoet_disca.yopo import GaussianDropout, Yopo, check_box, forward_flops

from cryoet_core.support.errors import UserError


def test_the_paper_network_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        network = Yopo()
    assert sum(p.numel() for layer in network.convolutions for p in layer.parameters()) == 4_896_784
    assert sum(p.numel() for p in network.parameters()) == 6_295_888
    assert [layer.out_channels for layer in network.convolutions] == [
        64,
        80,
        96,
        112,
        128,
        144,
        160,
        176,
        192,
        208,
    ]
    assert network(torch.zeros(2, 1, 24, 24, 24, device="meta")).shape == (2, 1024)
    gflop = [forward_flops(64, 10, 1024, 1, box) / 1e9 for box in (24, 32)]
    assert gflop == pytest.approx([13.4, 59.9], abs=0.1)


def test_starts_orthogonal_with_zero_biases() -> None:
    network = Yopo(8, 2, 16)
    for layer in (*network.convolutions, network.feature):
        rows = layer.weight.flatten(1)
        rows = rows if len(rows) <= rows.shape[1] else rows.T
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
        assert not layer.bias.any()


@pytest.mark.parametrize(("blocks", "bin"), [(1, 1), (3, 1), (3, 2)])
def test_features_of_any_box_that_is_large_enough(blocks: int, bin: int) -> None:
    network = Yopo(4, blocks, 12, bin).eval()
    least = (2 * blocks + 1) * bin
    for box in (least, least + 1, least + 5):
        check_box(box, blocks, bin)
        assert network(torch.randn(3, 1, box, box, box)).shape == (3, 12)
    with pytest.raises(
        UserError, match=rf"needs cubes of at least {least} voxels, the data set has {least - 1}"
    ):
        check_box(least - 1, blocks, bin)


def test_moving_a_particle_in_an_empty_box_changes_nothing() -> None:
    torch.manual_seed(0)
    network = Yopo(4, 10, 16).eval()
    cube = torch.full((1, 1, 48, 48, 48), 0.3)
    cube[..., 21:27, 21:27, 21:27] += torch.randn(6, 6, 6)
    moved = cube.roll((1, -1, 0), (2, 3, 4))
    assert not torch.equal(cube, moved)
    with torch.no_grad():
        torch.testing.assert_close(network(moved), network(cube), rtol=1e-4, atol=1e-5)
        assert (network(cube.flip(2)) - network(cube)).abs().max() > 1e-3


def test_the_noise_on_the_input_is_for_training_only() -> None:
    noise, x = GaussianDropout(0.5), torch.full((20000,), 3.0)
    torch.manual_seed(0)
    noisy = noise.train()(x)
    assert float(noisy.mean()) == pytest.approx(3, abs=0.1)
    assert float(noisy.std()) == pytest.approx(3, abs=0.1)
    torch.testing.assert_close(noise.eval()(x), x)


def test_a_volumes_features_do_not_depend_on_its_company() -> None:
    torch.manual_seed(0)
    network, cubes = Yopo(4, 2, 8).eval(), torch.randn(5, 1, 9, 9, 9)
    torch.testing.assert_close(network(cubes)[3:4], network(cubes[3:4]), rtol=1e-4, atol=1e-5)
