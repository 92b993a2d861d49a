"""The score against a direct sum, planted templates, invariances, and rotations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cryoet_template_matching.filters import RadialFilter, seen_frequencies
from cryoet_template_matching.matcher import FLAT, Matcher, Matches, box_of
from cryoet_template_matching.threshold import noise_threshold
from torch import Tensor

from cryoet_core.algorithms.fourier import apply_filter, wedge_mask
from cryoet_core.algorithms.transforms import random_rotations, rotate

Make = Callable[..., Tensor]
RADIUS = 7.0
SHAPE = (44, 46, 50)
PLACE = (21, 24, 27)


@pytest.fixture(scope="module")
def turns() -> Tensor:
    return random_rotations(9, torch.Generator().manual_seed(1))


def turned(density: Tensor, rotation: Tensor) -> Tensor:
    return rotate(density[None, None], rotation[None], mode="fourier", fill=0.0)[0, 0]


def at_place(matcher: Matcher, found: Matches) -> tuple[float, int]:
    """Score and rotation at the voxel where the template was planted."""
    index = tuple(p - matcher.margin for p in PLACE)
    return float(found.best[index]), int(found.index[index])


def peak(matcher: Matcher, found: Matches) -> tuple[int, ...]:
    place = np.unravel_index(int(found.best.argmax()), found.best.shape)
    return tuple(int(p) + matcher.margin for p in place)


@pytest.mark.parametrize("wedge", [False, True])
def test_equals_direct_sums(turns: Tensor, wedge: bool, body: Make) -> None:
    """Of a 16^3 volume, in float64, voxel by voxel."""
    weights = wedge_mask(box_of(4.0), (-60, 60), full=True) if wedge else None
    matcher = Matcher(body(12, 1.0), 4.0, weights)
    volume = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0))
    found = matcher.search(volume, turns, batch=4)
    templates, mask = matcher.templates(turns).double(), matcher.mask.double()
    half, w = matcher.half, float(mask.sum())
    assert found.best.shape == (16 - 2 * half,) * 3
    first = []
    for place in np.ndindex(*found.best.shape):
        window = volume.double()[tuple(slice(p, p + 2 * half + 1) for p in place)]
        mean = (mask * window).sum() / w
        deviation = ((mask * window.square()).sum() / w - mean**2).sqrt()
        scores = (templates * window).sum(dim=(1, 2, 3)) / deviation
        assert float(found.best[place]) == pytest.approx(float(scores.max()), abs=2e-5)
        assert int(found.index[place]) == int(scores.argmax())
        first.append(float(scores[0]) ** 2)
    assert found.square == pytest.approx(np.mean(first), rel=1e-4)


def test_template_is_normalised_under_the_mask(turns: Tensor, body: Make) -> None:
    """Its correlation with itself is 1: sum of t^2 / M is 1 / w, its mean 0."""
    matcher = Matcher(body(), RADIUS)
    templates, mask = matcher.templates(turns).double(), matcher.mask.double()
    assert float(templates.sum(dim=(1, 2, 3)).abs().max()) < 1e-6
    inside = mask > 1e-3
    squares = (templates[:, inside].square() / mask[inside]).sum(dim=1) * float(mask.sum())
    np.testing.assert_allclose(squares.numpy(), 1, atol=1e-4)


def test_a_planted_template_scores_one(turns: Tensor, body: Make, planted: Make) -> None:
    matcher = Matcher(body(), RADIUS)
    for number in (0, 4, 8):
        volume = planted(torch.zeros(SHAPE), turned(body(30), turns[number]), PLACE)
        found = matcher.search(volume, turns)
        score, index = at_place(matcher, found)
        assert score == pytest.approx(1, abs=1e-3)
        assert index == number
        assert peak(matcher, found) == PLACE
        assert float(found.best.max()) < 1 + 1e-4


def test_scale_and_offset_change_nothing(turns: Tensor, body: Make, planted: Make) -> None:
    matcher = Matcher(body(), RADIUS)
    noise = 0.3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    volume = planted(noise, turned(body(), turns[3]), PLACE)
    first, other = matcher.search(volume, turns), matcher.search(7 * volume + 3, turns)
    np.testing.assert_allclose(other.best, first.best, atol=1e-4)
    assert peak(matcher, first) == PLACE


def test_inverted_contrast_gives_a_negative_score(turns: Tensor, body: Make, planted: Make) -> None:
    matcher = Matcher(body(), RADIUS)
    volume = -planted(torch.zeros(SHAPE), turned(body(30), turns[0]), PLACE)
    score, _ = at_place(matcher, matcher.search(volume, turns[:1]))
    assert score == pytest.approx(-1, abs=1e-3)


def test_batches_and_single_rotations_agree(turns: Tensor, body: Make) -> None:
    """Also with an odd number in a batch, where one of a pair is empty."""
    matcher = Matcher(body(), RADIUS, wedge_mask(box_of(RADIUS), (-60, 60), full=True))
    volume = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    expected = matcher.search(volume, turns, batch=1)
    for batch in (2, 3, 8, 20):
        found = matcher.search(volume, turns, batch=batch)
        np.testing.assert_allclose(found.best, expected.best, atol=1e-5)
        assert float((found.index == expected.index).float().mean()) > 0.999


def test_a_flat_volume_scores_nothing(turns: Tensor, body: Make) -> None:
    matcher = Matcher(body(), RADIUS)
    found = matcher.search(torch.full(SHAPE, 2.0), turns)
    assert bool(found.best.isfinite().all())
    assert float(found.best.abs().max()) < 1e-2 / FLAT * 1e-2
    half = torch.zeros(SHAPE)
    half[:, :, 25:] = torch.randn(44, 46, 25, generator=torch.Generator().manual_seed(0))
    assert bool(matcher.search(half, turns).best.isfinite().all())


def test_scores_of_noise_stay_about_the_threshold(body: Make) -> None:
    rotations = random_rotations(60, torch.Generator().manual_seed(4))
    matcher = Matcher(body(), RADIUS)
    found = matcher.search(
        torch.randn(60, 60, 60, generator=torch.Generator().manual_seed(5)), rotations
    )
    threshold = noise_threshold(found.square, found.best.numel(), len(rotations))
    assert 0.8 * threshold < float(found.best.max()) < 1.1 * threshold
    assert noise_threshold(1.0, 10_000, 100) == pytest.approx(4.7534, abs=1e-3)  # one in a million


def test_a_mirrored_template_scores_less(turns: Tensor, body: Make, planted: Make) -> None:
    volume = planted(torch.zeros(SHAPE), turned(body(30), turns[5]), PLACE)
    mirrored = body(21).flip(0)
    rotations = torch.cat((turns[5:6], random_rotations(80, torch.Generator().manual_seed(6))))
    right = Matcher(body(21), RADIUS).search(volume, rotations)
    wrong = Matcher(mirrored, RADIUS).search(volume, rotations)
    assert float(right.best.max()) > float(wrong.best.max()) + 0.05


def test_the_wedge_is_fixed_to_the_tomogram(turns: Tensor, body: Make, planted: Make) -> None:
    """A planted particle behind a wedge agrees best with a template that is turned first and
    weighted then.
    """
    box = 60
    volume = planted(torch.zeros(box, box, box), turned(body(30), turns[2]), (30, 30, 30))
    seen = apply_filter(volume, wedge_mask(box, (-50, 60)))
    with_wedge = Matcher(body(), RADIUS, wedge_mask(box_of(RADIUS), (-50, 60), full=True))
    without = Matcher(body(), RADIUS)
    middle = (30 - with_wedge.margin,) * 3
    found, bare = with_wedge.search(seen, turns), without.search(seen, turns)
    assert int(found.index[middle]) == 2
    assert float(found.best[middle]) > 0.99
    assert float(found.best[middle]) > float(bare.best[middle]) + 0.03


def gaussian_kernel(sigma: float, reach: int) -> RadialFilter:
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = line[:, None, None] * line[:, None] * line
    return RadialFilter(kernel / kernel.sum())


def test_filtered_volume_and_template_still_agree(turns: Tensor, body: Make, planted: Make) -> None:
    """A template through the same filter as the volume scores 1 but for what leaves its mask."""
    radial = gaussian_kernel(1.0, 4)
    matcher = Matcher(body(24), 9.0, None, radial)
    volume = planted(torch.zeros(60, 62, 64), turned(body(30), turns[1]), (30, 31, 32))
    found = matcher.search(volume, turns)
    place = tuple(p - matcher.margin for p in (30, 31, 32))
    assert float(found.best[place]) == pytest.approx(1, abs=5e-3)
    assert int(found.index[place]) == 1
    smooth = torch.fft.ifftn(torch.fft.fftn(volume) * radial.transfer((60, 62, 64))).real
    margin = matcher.margin
    np.testing.assert_allclose(
        found.volume, smooth[margin:-margin, margin:-margin, margin:-margin].contiguous(), atol=1e-5
    )


def test_a_filter_longer_than_the_box_is_folded() -> None:
    radial = gaussian_kernel(2.0, 8)
    impulse = torch.zeros(9, 40, 40)
    impulse[4, 20, 20] = 1
    found = torch.fft.ifftn(torch.fft.fftn(impulse) * radial.transfer((9, 40, 40))).real
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert math.isclose(
        float(found[4, 20, 20]), float(radial.kernel[[8 - 0], 8, 8][0]), rel_tol=1e-2
    )


def test_what_the_tomogram_has_seen() -> None:
    from cryoet_template_matching.config import TemplateMatchingConfig

    from cryoet_core.tomograms import ArrayVolume, Tomogram

    tomogram = Tomogram(
        "t", ArrayVolume(np.zeros((4, 4, 4), np.float32)), 10.0, tilt_range=(-60.0, 60.0)
    )
    wedge = seen_frequencies(TemplateMatchingConfig(), tomogram, 24)
    assert float(wedge.mean()) == pytest.approx(1 - math.tan(math.radians(30)) / 2, abs=0.01)
    bare = seen_frequencies(TemplateMatchingConfig(wedge=False), tomogram, 24)
    assert bool((bare == 1).all())
    optics = {"ctf": "modulated", "wedge": False, "defocus": 3.0}
    recorded = seen_frequencies(TemplateMatchingConfig(**optics), tomogram, 24)
    flipped = seen_frequencies(TemplateMatchingConfig(**{**optics, "ctf": "flipped"}), tomogram, 24)
    assert float(recorded[0, 0, 0]) == pytest.approx(
        0.07, abs=1e-4
    )  # amplitude contrast, protein bright
    assert float(recorded.min()) < -0.5
    np.testing.assert_array_equal(flipped, recorded.abs())
