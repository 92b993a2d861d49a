"""The simulator: exact SNR, paired seeds, independence of batches, wedge, poses, neighbours, truth
that is true.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from cryoet_core.algorithms.fourier import apply_filter, ctf, radial_frequency, wedge_mask
from cryoet_core.simulate.generation import Batch, class_names, plan_labels, simulate
from cryoet_core.simulate.imaging import Microscope, aitom_ctf
from cryoet_core.simulate.scene.crowding import Placed, place_neighbours
from cryoet_core.simulate.scene.poses import draw_pose
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.phantoms import load_phantom
from cryoet_core.simulate.shapes.structures import Structure, as_structure
from cryoet_core.support.errors import UserError

NAMES = ("ring-c6", "two-jaws", "filament")


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    return [load_phantom(name, 7.0, 28.0) for name in NAMES]


def settings(**changes: object) -> SimulationSettings:
    values: dict[str, object] = {
        "per_class": 8,
        "box": 24,
        "voxel_size": 14.0,
        "clean": True,
    } | changes
    return SimulationSettings(**values)  # type: ignore[arg-type]


def whole(structures: list[Structure], batch_size: int = 64, **changes: object) -> Batch:
    """A whole simulation as one batch."""
    batches = list(simulate(structures, settings(**changes), batch_size))
    join = {}
    for name in Batch.__dataclass_fields__:
        parts = [getattr(b, name) for b in batches]
        if parts[0] is None:
            join[name] = None
        else:
            join[name] = (
                torch.cat(parts) if isinstance(parts[0], torch.Tensor) else np.concatenate(parts)
            )
    return Batch(**join)


def variance(volumes: torch.Tensor) -> torch.Tensor:
    return volumes.double().var((1, 2, 3), correction=0)


@pytest.mark.parametrize("snr", [100.0, 0.1, 0.01])
@pytest.mark.parametrize("box", [24, 25])
def test_snr_is_exact_in_every_cube(structures: list[Structure], snr: float, box: int) -> None:
    for more in (
        {},
        {"mtf": "sinc", "tilt_range": (-50.0, 70.0)},
        {"defocus": (3.0, 6.0), "max_shift": 4.0},
    ):
        batch = whole(structures, snr=snr, box=box, **more)
        assert batch.clean is not None
        ratio = variance(batch.clean) / variance(batch.volumes - batch.clean)
        assert torch.allclose(ratio, torch.full_like(ratio, snr), rtol=2e-4)
        assert np.allclose(batch.snr, snr, rtol=1e-4)


def test_replicates_give_the_same_snr(structures: list[Structure]) -> None:
    """c / (1 - c), with c the correlation of two noisy copies of one particle, estimates the
    SNR.
    """
    microscope = Microscope(settings(snr=0.5))
    generator = torch.Generator().manual_seed(0)
    clean = whole(structures, snr=float("inf"), ctf=False).volumes[:1].expand(20, -1, -1, -1)
    always = torch.ones(20, dtype=torch.bool)
    copies = [
        microscope.image(
            clean, None, always, torch.randn(clean.shape, generator=generator), [4.0] * 20
        ).volumes
        for _ in range(2)
    ]
    flat = [c.flatten(1) - c.flatten(1).mean(1, keepdim=True) for c in copies]
    correlation = (flat[0] * flat[1]).sum(1) / (flat[0].norm(dim=1) * flat[1].norm(dim=1))
    assert float((correlation / (1 - correlation)).mean()) == pytest.approx(0.5, rel=0.05)


def test_neighbours_and_absence_leave_the_noise_alone(structures: list[Structure]) -> None:
    alone = whole(structures)
    crowded = whole(structures, crowding=3)
    assert alone.clean is not None
    assert crowded.clean is not None
    assert torch.allclose(alone.volumes - alone.clean, crowded.volumes - crowded.clean, atol=1e-4)
    assert not torch.allclose(alone.clean, crowded.clean, atol=1e-2)
    assert np.array_equal(alone.rotations, crowded.rotations)


def test_without_noise_it_is_deterministic_and_noise_free(structures: list[Structure]) -> None:
    first, second = (whole(structures, snr=float("inf")) for _ in range(2))
    assert torch.equal(first.volumes, second.volumes)
    assert first.clean is not None
    assert torch.equal(first.volumes, first.clean)
    assert np.isinf(first.snr).all()


@pytest.mark.parametrize(
    "change",
    [
        {"snr": 0.01},
        {"defocus": (10.0,), "cs": 2.0},
        {"defocus": (3.0, 6.0)},
        {"tilt_range": (-40.0, 40.0)},
        {"bfactor": 0.0, "amplitude_contrast": 0.1},
        {"snr_mode": "aitom"},
        {"crowding": 2},
        {"contrast": "dark"},
    ],
)
def test_the_same_seed_pairs_the_poses_under_other_settings(
    structures: list[Structure], change: dict[str, object]
) -> None:
    one, other = whole(structures, max_shift=3.0), whole(structures, max_shift=3.0, **change)
    for name in ("labels", "rotations", "shifts"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_another_seed_is_another_set(structures: list[Structure]) -> None:
    one, other = whole(structures), whole(structures, seed=1)
    assert not np.array_equal(one.labels, other.labels)
    assert not np.allclose(one.rotations, other.rotations)
    assert sorted(one.labels) == sorted(other.labels)


@pytest.mark.parametrize("mode", ["variance", "aitom"])
def test_batches_and_order_change_nothing(structures: list[Structure], mode: str) -> None:
    changes = {
        "crowding": 2,
        "defocus": (3.0, 6.0),
        "max_shift": 2.0,
        "empty_fraction": 0.2,
        "snr_mode": mode,
    }
    one, seven = whole(structures, 64, **changes), whole(structures, 7, **changes)
    assert torch.allclose(one.volumes, seven.volumes, atol=1e-5)
    assert np.array_equal(one.labels, seven.labels)
    some = next(simulate(structures, settings(**changes), indices=[5, 2]))
    assert torch.allclose(some.volumes, one.volumes[[5, 2]], atol=1e-5)


def test_classes_are_balanced_shuffled_and_named(structures: list[Structure]) -> None:
    plain = plan_labels(structures, settings())
    assert np.bincount(plain).tolist() == [8, 8, 8]
    assert not np.array_equal(plain, np.sort(plain))
    assert class_names(structures, settings()) == NAMES
    third = settings(per_class=14, empty_fraction=0.3)
    labels = plan_labels(structures, third)
    assert class_names(structures, third) == (*NAMES, "empty")
    assert np.bincount(labels).tolist() == [14, 14, 14, 18]
    assert (labels == 3).mean() == pytest.approx(0.3)


def test_empty_cubes_hold_noise_of_the_same_level(structures: list[Structure]) -> None:
    batch = whole(structures, empty_fraction=0.4)
    empty = torch.from_numpy(batch.labels == 3)
    assert batch.clean is not None
    assert float(batch.clean[empty].abs().max()) == 0
    levels = variance(batch.volumes - batch.clean)
    assert 0.3 < float(levels[empty].mean() / levels[~empty].mean()) < 3
    crowded = whole(structures, empty_fraction=0.4, crowding=2)
    assert crowded.clean is not None
    assert (variance(crowded.clean[empty]) > 0).float().mean() > 0.9


@pytest.mark.parametrize("box", [24, 25])
def test_nothing_is_left_in_the_missing_wedge(structures: list[Structure], box: int) -> None:
    batch = whole(structures, box=box, tilt_range=(-50.0, 70.0))
    power = torch.fft.rfftn(batch.volumes, dim=(1, 2, 3)).abs().square().mean(0)
    mask = wedge_mask(box, (-50, 70))
    assert float(power[mask == 0].max()) < 1e-9 * float(power[mask == 1].mean())


def test_noise_is_white_inside_the_wedge(structures: list[Structure]) -> None:
    batch = whole(structures, per_class=60, snr=0.1)
    assert batch.clean is not None
    noise = torch.fft.rfftn(batch.volumes - batch.clean, dim=(1, 2, 3)).abs().square()
    noise = (noise / noise.mean((1, 2, 3), keepdim=True)).mean(0)
    radius = radial_frequency(24)
    inside = wedge_mask(24, (-60, 60)) == 1
    shells = [
        float(noise[inside & (radius > low) & (radius <= low + 0.1)].mean())
        for low in (0.0, 0.1, 0.2, 0.3, 0.4)
    ]
    assert max(shells) / min(shells) < 1.1


def test_image_is_density_through_the_written_filter(structures: list[Structure]) -> None:
    bare = whole(structures, snr=float("inf"), ctf=False, tilt_range=(-90.0, 90.0)).volumes
    image = whole(structures, snr=float("inf"), defocus=(5.0,), cs=2.0).volumes
    k = radial_frequency(24, 14.0)
    transfer = -ctf(k, 5.0, 2.0, 300, 0.07, bfactor=300) * wedge_mask(24, (-60, 60))
    assert torch.allclose(image, apply_filter(bare, transfer), atol=1e-4)


def test_protein_stays_bright(structures: list[Structure]) -> None:
    for mode in ("variance", "aitom"):
        bare = whole(structures, snr=float("inf"), ctf=False, tilt_range=(-90.0, 90.0)).volumes
        image = whole(structures, snr=float("inf"), snr_mode=mode).volumes
        joint = (
            (bare - bare.mean((1, 2, 3), keepdim=True))
            * (image - image.mean((1, 2, 3), keepdim=True))
        ).sum()
        assert float(joint) > 0


def test_pose_and_shift_are_where_the_density_is() -> None:
    """Two unlike balls: their places in the cube are the stated active rotation and shift of those
    in the structure.
    """
    centres, weights = np.array([[30.0, 0.0, 0.0], [-10.0, 40.0, 20.0]]), np.array([4.0, 2.0])
    axes = (np.indices((40, 40, 40)) - 20) * 6.0
    density = sum(
        w * np.exp(-((axes - c[:, None, None, None]) ** 2).sum(0) / (2 * 12.0**2))
        for c, w in zip(centres, weights, strict=True)
    )
    batch = whole(
        [as_structure("balls", density, 6.0)],
        snr=float("inf"),
        ctf=False,
        tilt_range=(-90, 90),
        max_shift=3,
    )
    grid = (np.indices((24, 24, 24)) - 12) * 14.0
    for volume, rotation, shift in zip(
        batch.volumes.numpy(), batch.rotations, batch.shifts, strict=True
    ):
        truth = sum(
            w
            * np.exp(
                -((grid - (rotation @ c + shift * 14)[:, None, None, None]) ** 2).sum(0)
                / (2 * 12.0**2)
            )
            for c, w in zip(centres, weights, strict=True)
        )
        assert np.corrcoef(volume.ravel(), truth.ravel())[0, 1] > 0.995


def test_turning_loses_no_resolution(structures: list[Structure]) -> None:
    """The power spectrum of a turned particle is that of the particle: no interpolation blur at
    high frequency.
    """
    batch = whole(
        structures[:1], per_class=40, snr=float("inf"), ctf=False, tilt_range=(-90.0, 90.0)
    )
    power = torch.fft.rfftn(batch.volumes, dim=(1, 2, 3)).abs().square()
    radius = radial_frequency(24)
    band = (radius > 0.3) & (radius < 0.4)
    energy = power[:, band].sum(1)
    axes = (np.indices(structures[0].density.shape) - len(structures[0].density) // 2) * 7.0
    fine = np.abs(np.fft.fftn(structures[0].density)) ** 2
    frequency = (
        np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(len(axes[0]))] * 3, indexing="ij")))
        * 2
    )
    expected = (fine[(frequency > 0.3) & (frequency < 0.4)].sum() / fine.sum()) * float(
        power.sum(1).sum(1).sum(1).mean()
    )
    # half spectra count most frequencies once: compare shares of the same half
    share = float((energy / power.sum((1, 2, 3))).mean())
    assert share == pytest.approx(expected / float(power.sum((1, 2, 3)).mean()), rel=0.15)


def test_rotations_are_uniform_and_aitoms_are_not() -> None:
    uniform = np.array([draw_pose(0, i).rotation for i in range(4000)])
    assert np.allclose(uniform @ uniform.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(np.linalg.det(uniform), 1)
    assert np.abs(uniform.mean(0)).max() < 0.04
    assert (uniform[:, 0, 0] ** 2).mean() == pytest.approx(1 / 3, abs=0.02)
    assert stats.kstest(uniform[:, 0, 0], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    few = np.array([draw_pose(0, i, "aitom").rotation for i in range(4000)])
    assert np.allclose(np.linalg.det(few), 1)
    cosine = few[:, 0, 0]  # the beam's axis, z here
    assert cosine.mean() == pytest.approx(0.38, abs=0.04)
    # matrix entries of the beam's axis, as the angle phi of its own last row, here the first column
    # reversed
    phi = np.degrees(np.arctan2(few[:, 1, 0], few[:, 2, 0])) % 360
    counts = np.sort(np.histogram(phi, 8, (0, 360))[0])
    assert counts[:4].sum() < 0.05 * len(few)


def test_shifts_fill_their_range() -> None:
    shifts = np.array([draw_pose(3, i).shift for i in range(2000)])
    assert stats.kstest(shifts.ravel(), stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_neighbours_touch_the_box_and_overlap_nothing(structures: list[Structure]) -> None:
    half = 11 * 14.0
    found = 0
    for seed in range(30):
        generator = np.random.default_rng(seed)
        label = seed % 3
        target = Placed.of(
            label, structures[label], draw_pose(0, seed).rotation, generator.uniform(-40, 40, 3)
        )
        placed = place_neighbours(target, structures, 3, half, generator)
        found += len(placed)
        bodies = [_body(structures[p.label], p) for p in (target, *placed)]
        for i, first in enumerate(bodies):
            for second in bodies[i + 1 :]:
                assert not first & second
        for neighbour in placed:
            assert (np.abs(neighbour.corners) < half).all(1).any()
    assert found > 80


def _body(structure: Structure, placed: Placed) -> set[tuple[int, int, int]]:
    """The 7 Å voxels of the box frame that hold the structure's support, without its rim
    (rounding).
    """
    support = np.argwhere(structure.density > 0.3 * structure.density.max())
    points = (
        support - len(structure.density) // 2
    ) * structure.voxel_size @ placed.rotation.T + placed.centre
    return set(map(tuple, np.round(points / 7).astype(int).tolist()))


def test_aitoms_mode_delivers_less_than_its_nominal_snr(structures: list[Structure]) -> None:
    """The share is 0.36 to 0.65 by an independent restatement of those steps on other phantoms."""
    for defocus in (5.0, 10.0):
        batch = whole(
            structures,
            per_class=20,
            snr=0.1,
            snr_mode="aitom",
            defocus=(defocus,),
            voxel_size=10.0,
            box=32,
        )
        assert batch.clean is not None
        measured = variance(batch.clean) / variance(batch.volumes - batch.clean)
        assert np.allclose(batch.snr, measured.numpy(), rtol=0.05)
        assert 0.25 < float(measured.mean()) / 0.1 < 0.85


def test_aitoms_transfer() -> None:
    k = torch.linspace(0, 1 / 20, 200, dtype=torch.float64)
    transfer = aitom_ctf(k, [5.0], 2.0, 300, 10.0)[0]
    first_zero = float(k[1:][torch.diff(transfer.sign()) < 0][0])
    assert 1 / first_zero == pytest.approx(31.4, rel=0.02)
    assert float(transfer[1]) > 0
    assert (
        float(aitom_ctf(torch.tensor([1 / 40]).double(), [5.0], 2.0, 300, 10.0).abs())
        <= np.exp(-1.5625) + 1e-6
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"per_class": 0}, "`per_class`: 0"),
        ({"box": 4}, "`box`: 4"),
        ({"voxel_size": 0.0}, "`voxel_size`: 0"),
        ({"voxel_size": float("nan")}, "`voxel_size`: nan"),
        ({"snr": 0.0}, "`snr`: 0"),
        ({"tilt_range": (60.0, -60.0)}, "`tilt_range`: 60 -60"),
        ({"tilt_step": 0.0}, "`tilt_step`: 0"),
        ({"defocus": (6.0, 3.0)}, "`defocus`: 6 3"),
        ({"max_shift": 100.0}, "`max_shift`"),
        ({"empty_fraction": 1.0}, "`empty_fraction`"),
        ({"orientation": "any"}, "`orientation`: any; expected uniform or aitom"),
        ({"seed": -1}, "`seed`: -1"),
    ],
)
def test_wrong_settings_name_the_option(change: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        settings(**change)


def test_structures_need_names_of_their_own(structures: list[Structure]) -> None:
    with pytest.raises(UserError, match="no structures"):
        next(simulate([], settings()))
    with pytest.raises(UserError, match="taken twice"):
        next(simulate([structures[0], structures[0]], settings()))
