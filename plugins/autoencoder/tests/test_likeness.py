"""The suggestion: what looks like a particle, and what does not."""

from __future__ import annotations

import torch
from cryoet_autoencoder.likeness import particle_scores

from cryoet_core.algorithms.centring import soft_sphere

SIZE = 16
LINE = (torch.arange(SIZE) - SIZE // 2).float()
Z, Y, X = torch.meshgrid(LINE, LINE, LINE, indexing="ij")


def gaussian(
    z: float, y: float, x: float, widths: tuple[float, float, float] = (2.5, 2.5, 2.5)
) -> torch.Tensor:
    return torch.exp(
        -(((Z - z) / widths[0]) ** 2 + ((Y - y) / widths[1]) ** 2 + ((X - x) / widths[2]) ** 2) / 2
    )


PARTICLES = {
    "ball": soft_sphere(SIZE, 4),
    "shell": soft_sphere(SIZE, 6) - 0.7 * soft_sphere(SIZE, 3),
    "ellipsoid": gaussian(0, 0, 0, (4, 2, 2)),
    "dumbbell": gaussian(-2, 0, 0, (1.5, 1.5, 1.5)) + gaussian(2, 0, 0, (1.5, 1.5, 1.5)),
    "off by a voxel": gaussian(1, -1, 0),
}
OTHERS = {
    "a hole": -soft_sphere(SIZE, 4),
    "at the edge": gaussian(0, 7, 0),
    "a slab": torch.exp(-((Z - 0.0) ** 2) / 3),
    "a ramp": X / 8,
    "faint noise": 0.1 * torch.randn(SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(0)),
    "a faint ball": 0.2 * soft_sphere(SIZE, 4),
    "nothing": torch.zeros(SIZE, SIZE, SIZE),
}


def test_particles_are_suggested_and_nothing_else() -> None:
    pictures = torch.stack([*PARTICLES.values(), *OTHERS.values()])
    scores = particle_scores(pictures, torch.full((len(pictures),), 10))
    wanted = [True] * len(PARTICLES) + [False] * len(OTHERS)
    names = [*PARTICLES, *OTHERS]
    told = {
        name: (round(float(a), 2), round(float(b), 2))
        for name, a, b in zip(names, scores.likeness, scores.contrast, strict=True)
    }
    assert scores.suggested.tolist() == wanted, told


def test_level_and_scale_do_not_matter_and_empty_clusters_are_left_out() -> None:
    pictures = torch.stack([PARTICLES["ball"], OTHERS["a slab"], PARTICLES["ellipsoid"]])
    counts = torch.tensor([5, 5, 0])
    plain, other = particle_scores(pictures, counts), particle_scores(40 * pictures - 3, counts)
    torch.testing.assert_close(plain.likeness, other.likeness)
    torch.testing.assert_close(40 * plain.contrast, other.contrast)
    assert plain.suggested.tolist() == other.suggested.tolist() == [True, False, False]


def test_gold_neither_hides_the_particles_nor_is_one() -> None:
    pictures = torch.stack([PARTICLES["ball"], 30 * PARTICLES["ball"], OTHERS["a faint ball"]])
    scores = particle_scores(pictures, torch.tensor([95, 5, 30]))
    assert scores.suggested.tolist() == [True, False, False]
