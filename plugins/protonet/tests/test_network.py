"""The network, augmentation and the scales of the embedding."""

from __future__ import annotations

import pytest
import torch
from cryoet_protonet.augment import augmented
from cryoet_protonet.classes import split_classes
from cryoet_protonet.config import ProtoNetConfig
from cryoet_protonet.metric import isotropic, residuals, whitening
from cryoet_protonet.network import ProtoNet3D, blocks_for
from cryoet_protonet.scales import member_distances, temperature
from cryoet_protonet.training import learning_rate

from cryoet_core.algorithms.fourier import wedge_mask
from cryoet_core.runs.encoders import build_encoder
from cryoet_core.support.errors import UserError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("box", "dim"), [(28, 64), (32, 512), (40, 512)])
def test_published_sizes(box: int, dim: int) -> None:
    network = ProtoNet3D(box)
    assert network.dim == dim
    assert sum(p.numel() for p in network.parameters()) == 334_272


@pytest.mark.parametrize(("box", "bin", "blocks"), [(24, 1, 3), (25, 2, 3), (16, 2, 3)])
def test_features_have_the_length_that_is_said(box: int, bin: int, blocks: int) -> None:
    network = build_encoder("protonet.protonet3d", box, width=4, blocks=blocks, bin=bin).eval()
    volumes = torch.randn(3, 1, box, box, box, generator=seeded())
    with torch.no_grad():
        features = network(volumes)
        assert features.shape == (3, network.dim)
        torch.testing.assert_close(network(volumes[1:2]), features[1:2])


def test_pooling_before_the_rectifier_is_the_published_network() -> None:
    ours = ProtoNet3D(16, width=4, blocks=2).double()
    layers = [ours.blocks[0][0], ours.blocks[0][1], torch.nn.ReLU(), torch.nn.MaxPool3d(2)]
    layers += [ours.blocks[1][0], ours.blocks[1][1], torch.nn.ReLU(), torch.nn.MaxPool3d(2)]
    volumes = torch.randn(5, 1, 16, 16, 16, generator=seeded(), dtype=torch.float64)
    gradients = []
    for network in (ours, torch.nn.Sequential(*layers)):
        ours.zero_grad()
        network(volumes).flatten(1).square().sum().backward()
        gradients.append([p.grad.clone() for p in ours.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_small_cube_is_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"`blocks` 4 with `bin` 2 needs subtomograms of at least 32 voxels.* has 24",
    ):
        ProtoNet3D(24, blocks=4, bin=2)


@pytest.mark.parametrize("box", [12, 13])
def test_flips_keep_the_wedge_the_centre_and_the_values(box: int) -> None:
    mask = wedge_mask(box, (-60.0, 60.0), "y")
    white = torch.fft.rfftn(torch.randn(64, box, box, box, generator=seeded()), dim=(1, 2, 3))
    volumes = torch.fft.irfftn(white * mask, s=(box,) * 3, dim=(1, 2, 3))[:, None]
    turned = augmented(volumes, "flips", seeded(1))
    outside = torch.fft.rfftn(turned[:, 0], dim=(1, 2, 3)).abs() * (mask < 0.5)
    assert outside.max() < 1e-3
    torch.testing.assert_close(turned.flatten(1).sort().values, volumes.flatten(1).sort().values)
    torch.testing.assert_close(
        turned[..., box // 2, box // 2, box // 2], volumes[..., box // 2, box // 2, box // 2]
    )
    kinds = [
        [torch.equal(one, flip) for flip in _flips(volume)]
        for one, volume in zip(turned, volumes, strict=True)
    ]
    assert all(sum(kind) == 1 for kind in kinds)
    assert {kind.index(True) for kind in kinds} == set(range(8))


def _flips(volume: torch.Tensor) -> list[torch.Tensor]:
    found = []
    for axes in ((), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)):
        turned = volume.flip(axes)
        found.append(
            turned.roll((1,) * len(axes), axes) if volume.shape[-1] % 2 == 0 and axes else turned
        )
    return found


def test_none_and_rotations() -> None:
    volumes = torch.randn(4, 1, 12, 12, 12, generator=seeded())
    assert augmented(volumes, "none", seeded()) is volumes
    turned = augmented(volumes, "rotations", seeded(1))
    assert turned.shape == volumes.shape
    torch.testing.assert_close(turned, augmented(volumes, "rotations", seeded(1)))
    assert (turned - volumes).abs().mean() > 0.1


def test_whitening_makes_the_scatter_within_classes_the_identity() -> None:
    classes = torch.arange(4).repeat_interleave(500)
    mixing = torch.eye(6) + 0.3 * torch.randn(6, 6, generator=seeded())
    features = (
        torch.randn(2000, 6, generator=seeded(1)) @ mixing
        + 20.0 * torch.randn(4, 6, generator=seeded(2))[classes]
    )
    features = torch.cat([features, torch.ones(2000, 1)], 1)  # one feature that never varies
    inner = residuals(whitening(features, classes)(features), classes)
    scatter = inner.T @ inner / 2000
    values = torch.linalg.eigvalsh(scatter)
    assert values[0].abs() < 1e-4
    torch.testing.assert_close(values[1:], torch.ones(6), atol=0.1, rtol=0)
    scaled = isotropic(features, classes, 3.0)(features)
    assert float(residuals(scaled, classes).square().sum(1).mean()) == pytest.approx(3.0, rel=1e-3)


def test_member_distances_have_the_variance_as_their_mean() -> None:
    classes = torch.arange(300).repeat_interleave(4)
    points = (
        torch.randn(1200, 5, generator=seeded()).double()
        + 50.0 * torch.randn(300, 5, generator=seeded(1))[classes]
    )
    found = member_distances(points, classes)
    assert float(found.mean()) == pytest.approx(5.0, rel=0.05)
    by_hand = (points[1] - points[[0, 2, 3]].mean(0)).square().sum() / (1 + 1 / 3)
    torch.testing.assert_close(found[1], by_hand)
    assert len(member_distances(points[:9], classes[:9])) == 8  # the ninth is alone


def test_temperature() -> None:
    centres = torch.tensor([[0.0, 0.0], [6.0, 0.0]])
    # 36 / 2 = 18 between prototypes, of which 4 / 2 is their error: 1 + 2 / 16
    assert temperature(centres, torch.tensor([2, 2]), 4.0) == pytest.approx(1.125)
    assert temperature(centres, torch.tensor([10_000, 10_000]), 4.0) == pytest.approx(1.0, abs=1e-3)
    assert temperature(centres, torch.tensor([1, 1]), 100.0) == 101.0
    assert temperature(centres[:1], torch.tensor([1]), 4.0) == 1.0


def test_learning_rate_is_halved_on_time() -> None:
    config = ProtoNetConfig.from_layers("paper", {}, {})
    rates = [learning_rate(config, epoch) for epoch in (0, 19, 20, 39, 40)]
    assert rates == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]


class Drawing:
    """What ``split_classes`` uses of a run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generator(self, *key: str) -> torch.Generator:
        return seeded(self.seed)


def test_class_split() -> None:
    names = ["a", "b", "c", "d", "e"]
    assert split_classes(names, ["d", "a"], None, Drawing(0)) == (["a", "d"], ["b", "c", "e"])  # type: ignore[arg-type]
    for count in (None, 2, 3, 0):
        train, unseen = split_classes(names, [], count, Drawing(0))  # type: ignore[arg-type]
        assert sorted(train + unseen) == names
        assert len(unseen) == (2 if count is None else count)
    drawn = {tuple(split_classes(names, [], None, Drawing(seed))[1]) for seed in range(20)}  # type: ignore[arg-type]
    assert len(drawn) > 3
    with pytest.raises(UserError, match=r"`train_classes` f: the data set has no such class"):
        split_classes(names, ["f"], None, Drawing(0))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="names a class twice"):
        split_classes(names, ["a", "a"], None, Drawing(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("box", "bin", "blocks"),
    [(32, 1, 4), (40, 2, 4), (32, 2, 4), (24, 2, 3), (16, 2, 3), (9, 4, 1)],
)
def test_small_cubes_get_fewer_blocks(box: int, bin: int, blocks: int) -> None:
    assert blocks_for(box, bin) == blocks
    ProtoNet3D(box, width=2, blocks=blocks, bin=bin)
