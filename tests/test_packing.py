"""Packing and distractors: nothing overlaps, all of it inside, fractions reached, and an honest
refusal.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cryoet_core.simulate.scene import distractors
from cryoet_core.simulate.scene.distractors import FILAMENTS, GOLD, add_distractors
from cryoet_core.simulate.scene.packing import OCCUPIED, Room, Shape, copies_for, pack
from cryoet_core.simulate.scene.poses import from_quaternion
from cryoet_core.simulate.shapes.phantoms import load_phantom
from cryoet_core.simulate.shapes.structures import Structure
from cryoet_core.support.errors import UserError

VOXEL = 14.0
SHAPE = (40, 64, 64)


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    return [
        load_phantom(name, VOXEL / 2, 2 * VOXEL) for name in ("ring-c6", "two-jaws", "filament")
    ]


def test_no_overlap_and_all_inside(structures: list[Structure]) -> None:
    room = Room(SHAPE, VOXEL)
    placed = pack(room, structures, [8, 10, 5], 30.0, np.random.default_rng(0))
    assert np.bincount([p.label for p in placed]).tolist() == [8, 10, 5]
    for number, particle in enumerate(placed, 1):
        # Every voxel of the particle is still its own: nothing that came later took one.
        shape = Shape.of(structures[particle.label])
        voxels = shape.claimed(room, particle.rotation, particle.centre)
        assert (room.ids.reshape(-1)[voxels] == number).all()
        assert (room.labels.reshape(-1)[voxels] == particle.label + 1).all()
        assert voxels.size == np.count_nonzero(room.ids == number)
        points = shape.points @ particle.rotation.T + particle.centre
        assert (points >= 30).all()
        assert (points <= room.extent - 30).all()


def test_centres_are_the_centres_of_mass(structures: list[Structure]) -> None:
    room = Room(SHAPE, VOXEL)
    placed = pack(room, structures, [6, 6, 4], 0.0, np.random.default_rng(1))
    for number, particle in enumerate(placed, 1):
        middle = np.argwhere(room.ids == number).mean(0)
        assert np.abs(middle - particle.centre / VOXEL).max() < 0.5


def test_rotations_are_uniform_and_positions_between_voxels(structures: list[Structure]) -> None:
    room = Room((96, 128, 128), VOXEL)
    placed = pack(room, structures[:1], [150], 0.0, np.random.default_rng(2))
    rotations = np.array([p.rotation for p in placed])
    assert np.allclose(np.linalg.det(rotations), 1)
    assert np.abs(rotations.mean(0)).max() < 0.2
    assert (rotations[:, 0, 0] ** 2).mean() == pytest.approx(1 / 3, abs=0.08)
    rest = np.array([p.centre for p in placed]) / VOXEL % 1
    assert np.histogram(rest, 4, (0, 1))[0].min() > 80


@pytest.mark.parametrize("fraction", [0.05, 0.2])
def test_the_volume_fraction_is_reached(structures: list[Structure], fraction: float) -> None:
    room = Room((48, 80, 80), VOXEL)
    copies = copies_for(fraction, room, structures)
    assert max(copies) - min(copies) <= 1
    pack(room, structures, copies, 0.0, np.random.default_rng(3))
    assert np.count_nonzero(room.ids) / room.ids.size == pytest.approx(fraction, rel=0.05)


def test_a_fraction_below_one_particle_is_refused(structures: list[Structure]) -> None:
    with pytest.raises(UserError, match="`volume_fraction`"):
        copies_for(1e-6, Room((16, 16, 16), VOXEL), structures)


def test_too_many_copies_say_how_many_fitted(structures: list[Structure]) -> None:
    room = Room((32, 32, 32), VOXEL)
    with pytest.raises(
        UserError, match=r"`copies`: \d+ of 605 particles .*ring-c6 \d+ of 300, two-jaws \d+ of 300"
    ) as e:
        pack(room, structures, [300, 300, 5], 0.0, np.random.default_rng(0))
    fitted = int(str(e.value).split()[1])
    assert fitted == room.ids.max() > 5
    assert "filament 5 of 5" in str(e.value)  # the largest goes first
    assert "lower `copies`" in str(e.value)


def test_the_mask_has_the_volume_of_the_density(structures: list[Structure]) -> None:
    room, generator = Room((48, 48, 48), VOXEL), np.random.default_rng(0)
    for structure in structures:
        shape = Shape.of(structure)
        assert shape.volume(VOXEL) == np.count_nonzero(structure.density > OCCUPIED) / 8
        turns = [from_quaternion(generator.normal(size=4)) for _ in range(12)]
        counts = [
            shape.claimed(room, turn, room.extent / 2 + generator.random(3) * VOXEL).size
            for turn in turns
        ]
        assert np.mean(counts) == pytest.approx(shape.volume(VOXEL), rel=0.04)


def scene(
    counts: tuple[int, int, int], seed: int = 0, shape: tuple[int, int, int] = (64, 96, 96)
) -> tuple:
    room, density = Room(shape, 10.0), np.zeros(shape, np.float32)
    add_distractors(density, room, counts, 1, np.random.default_rng(seed))
    return room, density


def test_distractors_do_not_overlap_and_particles_avoid_them(structures: list[Structure]) -> None:
    claimed = []
    for counts in ((2, 0, 0), (2, 2, 0), (2, 2, 3)):
        room, _ = scene(counts)
        claimed.append(room.labels.copy())
    for before, after in itertools.pairwise(claimed):
        assert np.array_equal(before[before > 0], after[before > 0])
    assert set(np.unique(claimed[-1])) == {0, 1, 2, 3}
    small = [load_phantom("two-jaws", 5.0, 20.0)]
    pack(room, small, [6], 0.0, np.random.default_rng(0))
    assert not room.ids[claimed[-1] > 0].any()
    assert np.array_equal(room.labels[room.ids == 0], claimed[-1][room.ids == 0])


def test_distractors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"`beads`: \d+ of 500 fitted into 32 x 32 x 32 voxels; lower `beads`"
    ):
        scene((0, 0, 500), shape=(32, 32, 32))
    with pytest.raises(UserError, match="`beads`: 0 of 1"):
        scene((0, 0, 1), shape=(8, 32, 32))


def test_beads_are_gold_spheres_inside() -> None:
    room, density = scene((0, 0, 4))
    assert density.max() == pytest.approx(GOLD)
    volume = density.sum() / GOLD * 1000 / 4  # Å^3 of each
    assert 4 / 3 * np.pi * 45**3 < volume < 4 / 3 * np.pi * 55**3
    assert (room.labels[density > 0] == 3).all()
    edges = [
        density[0],
        density[-1],
        density[:, 0],
        density[:, -1],
        density[:, :, 0],
        density[:, :, -1],
    ]
    assert all((edge == 0).all() for edge in edges)


def test_a_membrane_is_two_leaflets_with_a_dip() -> None:
    distance = np.linspace(-40, 40, 161)
    profile = distractors._bilayer(distance, 4.0)
    assert abs(distance[:80][profile[:80].argmax()]) == pytest.approx(distractors.LEAFLET, abs=1)
    assert abs(distance[81:][profile[81:].argmax()]) == pytest.approx(distractors.LEAFLET, abs=1)
    assert profile[80] < 0 < profile.max() < 1.3
    room, density = scene((3, 0, 0), seed=1)
    assert (density[room.labels == 1]).mean() > 0.2
    assert np.abs(density[room.labels == 0]).max() < 0.4  # the faint outer flank only


def test_a_microtubule_has_thirteen_rows_of_monomers() -> None:
    kind = FILAMENTS[0]
    assert 13 * kind.twist == pytest.approx(360)
    assert 13 * kind.rise / kind.starts == pytest.approx(40)
    room, density = scene((0, 1, 0), shape=(64, 128, 128))
    # As much density as protein of the subunits' volume has: 13 monomers every 40 Å of the length
    # that is inside.
    length = np.count_nonzero(room.labels) * 1000 / (np.pi * kind.outer**2)
    assert density.sum() * 1000 == pytest.approx(length / 40 * 13 * kind.volume, rel=0.1)
    assert density.max() < 2.5
