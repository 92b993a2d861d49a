"""The encoder: sizes for every box, parameters as published, norms of two domains, what is shared
and what is not.
"""

from __future__ import annotations

import copy

import pytest
import torch
from cryoet_fsft.augment import augmented, mirrored
from cryoet_fsft.cubes import fourier_crop
from cryoet_fsft.networks import SOURCE, TARGET, Block, Discriminator, Networks
from cryoet_fsft.pooled_norm import pooled_norm
from cryoet_fsft.scoring import batch_statistics

from cryoet_core.support.errors import UserError


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("box", "width", "channels", "front", "shared", "dim", "conv"),
    [(28, 16, 128, 7440, 62640, 128, 138720), (40, 32, 32, 28704, 55488, 256, 166176)],
)
def test_parameters_are_those_of_the_published_settings(
    box: int, width: int, channels: int, front: int, shared: int, dim: int, conv: int
) -> None:
    networks = Networks(box, 7, width, channels)
    assert (count(networks.source), count(networks.target), count(networks.shared)) == (
        front,
        front,
        shared,
    )
    assert networks.dim == dim
    blocks = Discriminator(box, width, channels).blocks
    assert blocks is not None
    assert count(blocks) == conv


@pytest.mark.parametrize("box", [16, 17, 28, 31, 35])
def test_any_box_from_16_on(box: int) -> None:
    networks, discriminator = Networks(box, 3, 2, 4).eval(), Discriminator(box, 2, 4).eval()
    encoded = networks.encode(torch.randn(2, 1, box, box, box), TARGET)
    assert encoded[0].shape == (2, 2, *(box // 2 // 2,) * 3)
    assert encoded[1].shape == (2, networks.dim)
    assert networks(torch.randn(2, 1, box, box, box), SOURCE).shape == (2, 3)
    assert discriminator(encoded, encoded).shape == (2, 4)


def test_a_smaller_box_is_refused() -> None:
    with pytest.raises(UserError, match="subtomograms of 15 voxels: expected at least 16"):
        Networks(15, 3, 2, 4)


@pytest.mark.parametrize("box", [8, 9])
def test_a_block_is_convolution_norm_relu_and_maximum(box: int) -> None:
    """In float64: values, gradients and running statistics, where a scale is negative too."""
    generator = torch.Generator().manual_seed(0)
    block, norm = Block(2, 3).double(), torch.nn.BatchNorm3d(3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, -0.3]))
    block.norm.norms[0].load_state_dict(norm.state_dict())
    convolution = copy.deepcopy(block.convolution)
    plain = torch.nn.Sequential(convolution, norm, torch.nn.ReLU(), torch.nn.MaxPool3d(2))
    x = torch.randn(4, 2, box, box, box, dtype=torch.float64, generator=generator).requires_grad_()
    y = x.detach().clone().requires_grad_()
    ours, theirs = block(x), plain(y)
    weights = torch.randn(ours.shape, dtype=torch.float64, generator=generator)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    found = [
        ours,
        x.grad,
        block.convolution.weight.grad,
        block.norm.norms[0].weight.grad,
        block.norm.norms[0].bias.grad,
    ]
    expected = [theirs, y.grad, convolution.weight.grad, norm.weight.grad, norm.bias.grad]
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)
    for name, value in norm.state_dict().items():
        assert torch.allclose(block.norm.norms[0].state_dict()[name], value), name


def test_half_precision_is_a_number_on_a_cpu_and_near_the_full_one() -> None:
    """torch's bfloat16 convolution of maps of 2^3 voxels gives NaN in one step of ten."""
    torch.manual_seed(0)
    networks = Networks(16, classes=3, width=16, channels=128).train()
    volumes = torch.randn(7, 1, 16, 16, 16)
    full = networks.encode(volumes, SOURCE)[1]
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16):
            features = networks.encode(volumes, SOURCE)[1]
        gradients = torch.autograd.grad(
            features.float().square().mean(), networks.shared.parameters()
        )
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        torch.testing.assert_close(features.float(), full, atol=0.15, rtol=0.1)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("domain_norm", [True, False])
def test_both_domains_together_are_each_alone(split: bool, domain_norm: bool) -> None:
    torch.manual_seed(1)
    together = Networks(16, 3, 2, 4, split=split, domain_norm=domain_norm).double().train()
    apart = copy.deepcopy(together)
    ours, theirs = (torch.randn(n, 1, 16, 16, 16, dtype=torch.float64) for n in (5, 3))
    found = together.encode_both(ours, theirs)
    expected = apart.encode(ours, SOURCE), apart.encode(theirs, TARGET)
    for one, other in zip(found, expected, strict=True):
        for part, whole in zip(one, other, strict=True):
            torch.testing.assert_close(part, whole)
    for result in (found, expected):
        sum(part.square().sum() for one in result for part in one).backward()
    for (name, one), other in zip(together.named_parameters(), apart.parameters(), strict=True):
        if name.startswith("classifier"):
            assert one.grad is None
        else:
            torch.testing.assert_close(one.grad, other.grad, msg=name)
    for (name, one), other in zip(
        together.state_dict().items(), apart.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_the_maximum_may_be_taken_before_running_statistics(weight: float) -> None:
    norm = torch.nn.BatchNorm3d(2).eval()
    with torch.no_grad():
        norm.weight[1], norm.bias[0] = weight, 3.0
        norm.running_mean += 0.5
        norm.running_var *= 4
        x = torch.randn(3, 2, 6, 6, 6)
        torch.testing.assert_close(pooled_norm(x, norm), torch.nn.functional.max_pool3d(norm(x), 2))


def test_fronts_start_alike_and_the_rest_is_one_object() -> None:
    split, joint = Networks(16, 3, 2, 4, domain_norm=True), Networks(16, 3, 2, 4, split=False)
    assert joint.target is joint.source
    x = torch.randn(3, 1, 16, 16, 16)
    split.train()
    split(x, SOURCE)
    assert not torch.equal(split.eval()(x, SOURCE), split(x, TARGET))
    split.begin_target()
    assert torch.equal(split(x, SOURCE), split(x, TARGET))
    split(x, TARGET).sum().backward()
    assert all(parameter.grad is None for parameter in split.source.parameters())
    assert all(
        parameter.grad is not None
        for parameter in [*split.target.parameters(), *split.shared.parameters()]
    )


def test_each_domain_has_its_own_statistics_but_one_scale() -> None:
    networks = Networks(16, 3, 2, 4, split=False, domain_norm=True).train()
    networks(5 + torch.randn(4, 1, 16, 16, 16), TARGET)
    ours, theirs = networks.shared[0].norm.norms
    assert not ours.running_mean.any()
    assert theirs.running_mean.any()
    assert ours.weight is theirs.weight
    again = Networks(16, 3, 2, 4, split=False, domain_norm=True)
    again.load_state_dict(networks.state_dict())
    assert again.shared[0].norm.norms[0].weight is again.shared[0].norm.norms[1].weight


def test_batch_statistics_leave_the_running_ones() -> None:
    networks = Networks(16, 3, 2, 4).eval()
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    x = 3 * torch.randn(6, 1, 16, 16, 16) + 1
    with batch_statistics(networks):
        adapted = networks(x, TARGET)
    assert not torch.allclose(adapted, networks(x, TARGET))
    assert all(torch.equal(value, before[name]) for name, value in networks.state_dict().items())
    networks.train()
    assert torch.allclose(networks(x, TARGET), adapted, atol=1e-6)


@pytest.mark.parametrize("box", [8, 9])
def test_turns_are_rotations_about_the_centre_voxel(box: int) -> None:
    x = torch.randn(1, 1, box, box, box)
    centre = box // 2
    turned = mirrored(mirrored(x, 2), 4)
    assert torch.equal(turned[..., centre, centre, centre], x[..., centre, centre, centre])
    assert torch.equal(
        turned[0, 0, centre + 1, centre + 2, centre - 1],
        x[0, 0, centre - 1, centre + 2, centre + 1],
    )
    assert torch.equal(mirrored(mirrored(turned, 2), 4), x)


@pytest.mark.parametrize(("kind", "orders"), [("none", 1), ("turns", 4), ("mirrors", 8)])
def test_augmented_copies_are_of_the_group_that_is_asked_for(kind: str, orders: int) -> None:
    x = torch.randn(1, 1, 8, 8, 8).expand(200, -1, -1, -1, -1)
    copies = augmented(x, kind, torch.Generator().manual_seed(0))
    assert len(torch.unique(copies.flatten(1), dim=0)) == orders


@pytest.mark.parametrize(("box", "edge"), [(12, 8), (13, 8), (12, 9), (15, 9)])
def test_fourier_crop_keeps_low_frequencies_and_the_centre(box: int, edge: int) -> None:
    """A wave that both grids can hold has the same values at the same places."""

    def wave(size: int) -> torch.Tensor:
        z, y, x = torch.meshgrid(
            *(3 * [(torch.arange(size) - size // 2).double() / size]), indexing="ij"
        )
        return 0.3 + torch.cos(2 * torch.pi * (2 * z + y)) + torch.sin(2 * torch.pi * (x - 3 * y))

    assert torch.allclose(fourier_crop(wave(box)[None], edge)[0], wave(edge), atol=1e-10)
