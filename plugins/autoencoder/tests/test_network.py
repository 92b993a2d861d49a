"""The autoencoder's networks: size, shapes for any box, codes, and the encoder as others
build it.
"""

from __future__ import annotations

import pytest
import torch
from cryoet_autoencoder.network import Autoencoder3D, Encoder3D

from cryoet_core.runs.encoders import build_encoder
from cryoet_core.support.errors import UserError


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_paper_network_has_the_papers_parameters() -> None:
    model = Autoencoder3D(32)
    dense = [parameters(model.encoder.code), parameters(model.decoder.expand)]
    assert dense == [524_320, 540_672]
    assert parameters(model) - sum(dense) == 84_801
    assert all(not value.any() for name, value in model.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("bin", [1, 2])
@pytest.mark.parametrize("box", [4, 9, 28, 30, 35])
def test_any_box_comes_back_in_its_size(box: int, bin: int) -> None:
    model = Autoencoder3D(box, 4, 6, bin)
    cubes = torch.randn(3, 1, box, box, box)
    decoded, codes = model(cubes)
    assert decoded.shape == model.encoder.seen(cubes).shape == (3, 1, *(box // bin,) * 3)
    assert codes.shape == (3, 6)
    assert codes.min() >= 0
    torch.testing.assert_close(model(cubes[1:2])[0], decoded[1:2], rtol=1e-4, atol=1e-5)


def test_binning_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="`bin` 8: subtomograms have 4 voxels"):
        Encoder3D(4, bin=8)


def test_others_build_the_encoder_by_name() -> None:
    encoder = build_encoder("autoencoder.encoder3d", 20, width=4, code=5, bin=2)
    assert encoder.dim == 5
    assert encoder(torch.zeros(2, 1, 20, 20, 20)).shape == (2, 5)


def test_eight_cubes_are_learnt_by_heart() -> None:
    torch.manual_seed(0)
    coarse = torch.randn(8, 1, 2, 2, 2)
    cubes = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="trilinear")
    cubes = (cubes - cubes.mean((2, 3, 4), keepdim=True)) / cubes.std((2, 3, 4), keepdim=True)
    model = Autoencoder3D(8, 16, 32)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(160):
        optimiser.zero_grad()
        loss = (model(cubes)[0] - cubes).square().mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.05 * float(cubes.var())
