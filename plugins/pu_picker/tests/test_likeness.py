"""Likeness of features to those of the labels, and how many picks a tomogram gets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from cryoet_pu_picker.bands import Bands
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.crops import Sampler
from cryoet_pu_picker.network import HybridNetwork, Likeness
from cryoet_pu_picker.picker import expected_or_above
from cryoet_pu_picker.scenes import Scene
from cryoet_pu_picker.training import SETTLING, remember

from cryoet_core.tomograms import ArrayVolume, Tomogram


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_it_is_similarity_over_temperature_about_half_way() -> None:
    random = np.random.default_rng(0)
    labels = [unit(random.normal(size=(n, 6)) + 1) for n in (4, 7)]
    about, seen = unit(random.normal(size=(50, 6))), unit(random.normal(size=(2, 3, 4, 5, 6)))
    likeness = Likeness(2, 6, 0.2).double()
    assert not likeness.known
    likeness.learn([torch.from_numpy(some) for some in labels], torch.from_numpy(about))
    assert likeness.known
    found = likeness(torch.from_numpy(np.moveaxis(seen, -1, 1)))
    for c, own in enumerate(labels):
        prototype = unit(own.mean(0))
        halfway = ((own @ prototype).mean() + (about @ prototype).mean()) / 2
        np.testing.assert_allclose(
            found[:, c].numpy(), (seen @ prototype - halfway) / 0.2, atol=1e-5
        )


def test_scores_are_of_both_logits_once_the_labels_are_known() -> None:
    torch.manual_seed(0)
    net = HybridNetwork("unet", 4, 2, 8, (0.1,), Bands((1.0,), 4.0), temperature=0.07).eval()
    volume = torch.randn(1, 1, 4, 16, 16)
    with torch.no_grad():
        plain, features = net(net.bands(volume))
        assert torch.equal(net.logits(volume), plain)
        net.likeness.learn([features[0, :, 1, 2, 3:6].T], features[0].flatten(1).T)
        torch.testing.assert_close(net.logits(volume), plain + net.likeness(features))
        assert torch.equal(
            net(net.bands(volume))[0], plain
        )  # training goes on with the heat map alone
        views = [net.logits(volume.flip(axes)).flip(axes) for axes in ((), (2, 3), (2, 4), (3, 4))]
        torch.testing.assert_close(net.logits(volume, turns=True), torch.stack(views).mean(0))


def test_the_labels_features_are_those_that_the_whole_tomogram_has_there() -> None:
    torch.manual_seed(0)
    net = HybridNetwork("resnet", 4, 1, 8, (0.1, 0.1), Bands((0.6,), 4.0), temperature=0.07).eval()
    values = np.random.default_rng(0).normal(size=(12, 64, 64)).astype(np.float32)
    places, species = (
        np.array([[5.0, 31.0, 32.4], [6.6, 30.0, 29.0], [0.0, 3.0, 60.0]]),
        np.array([0, 1, 0]),
    )
    scene = Scene(Tomogram("t", ArrayVolume(values), 10.0), places, species)
    sampler = Sampler([scene], PUPickerConfig(crop=64, crop_depth=3), (3.0, 6.0, 6.0), net.bands)
    run: Any = SimpleNamespace(
        device=torch.device("cpu"),
        generator=lambda *key: torch.Generator().manual_seed(hash(key[1])),
    )
    remember(net, [scene], sampler, run)
    with torch.no_grad():
        features = net(scene.crop((0, 0, 0), values.shape, net.bands)[None])[1][0]
    cells = [(5, 15, 16), (7, 15, 14), (0, 1, 30)]
    own = [
        torch.stack([features[(slice(None), *cells[i])] for i in rows]) for rows in ((0, 2), (1,))
    ]
    expected = torch.stack([torch.nn.functional.normalize(some.mean(0), dim=0) for some in own])
    torch.testing.assert_close(net.likeness.prototypes, expected, atol=1e-4, rtol=1e-4)
    assert SETTLING > 1
    assert (net.likeness.halfway < 1).all()


def test_as_many_picks_as_expected_or_as_are_above_the_threshold() -> None:
    values, kinds = np.array([0.9, 0.8, 0.7, 0.5, 0.4, 0.3]), np.array([0, 1, 0, 0, 1, 0])
    thresholds = (0.6, 0.6)
    assert expected_or_above(values, kinds, (0.0, 0.0), thresholds).tolist() == [0, 1, 2]
    assert expected_or_above(values, kinds, (1.0, 2.0), thresholds).tolist() == [0, 1, 2, 4]
    assert expected_or_above(values, kinds, (3.2, 9.0), thresholds).tolist() == [0, 1, 2, 3, 4]
