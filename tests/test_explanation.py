"""Class activation maps: on linear models whose answer is known, their files, their picture, and
what is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cryoet_core.algorithms.gradcam import CAMS, activation_map, explain, shown_map
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.run import Run
from cryoet_core.store import open_subtomograms
from cryoet_core.support.errors import UserError
from cryoet_core.tasks.explain import overlay
from cryoet_core.testing import data as kit_data


class Linear(nn.Module):
    """Two channels, the volume and its square; the scores are weighted sums of both over all
    voxels.
    """

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.weights = nn.Parameter(weights)

    def forward(self, volumes: Tensor) -> Tensor:
        activations = self.layer(torch.cat([volumes, volumes.square()], 1))
        return activations.sum((2, 3, 4)) @ self.weights.T


def blob(box: int = 12, place: tuple[int, int, int] = (3, 7, 8)) -> Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(box))] * 3, indexing="ij"))
    distance = (
        (grid - torch.tensor(place, dtype=torch.float32)[:, None, None, None]).square().sum(0)
    )
    return torch.exp(-distance / 4)[None, None]


@pytest.mark.parametrize("cam", CAMS)
def test_peaks_at_the_blob_of_a_linear_model(cam: Any) -> None:
    network = Linear(torch.tensor([[1.0, 0.5], [0.0, 0.0]]))
    found = shown_map(activation_map(network, network.layer, blob(), 0, cam), (12, 12, 12))
    assert found.shape == (12, 12, 12)
    assert found.min() >= 0
    assert found.max() == 1
    assert np.unravel_index(int(found.argmax()), found.shape) == (3, 7, 8)


@pytest.mark.parametrize("cam", CAMS)
def test_a_class_without_gradient_has_an_empty_map(cam: Any) -> None:
    network = Linear(torch.tensor([[1.0, 0.5], [0.0, 0.0]]))
    assert not shown_map(activation_map(network, network.layer, blob(), 1, cam), (12, 12, 12)).any()


def test_grad_cam_by_hand_and_respond_cam_sums_to_the_score() -> None:
    network = Linear(torch.tensor([[1.0, -0.25]]))
    volume = blob()
    grad = activation_map(network, network.layer, volume, 0, "grad-cam")
    expected = (volume - 0.25 * volume.square())[0, 0].clamp(
        min=0
    )  # the mean gradient of channel c is its weight
    torch.testing.assert_close(grad, expected)
    respond = activation_map(network, network.layer, volume, 0, "respond-cam")
    torch.testing.assert_close(respond.sum(), network(volume)[0, 0].detach(), rtol=1e-4, atol=1e-4)


def test_it_works_on_frozen_networks_and_leaves_no_hook() -> None:
    network = Linear(torch.tensor([[1.0, 0.5]])).requires_grad_(False)
    assert activation_map(network, network.layer, blob(), 0, "grad-cam").any()
    assert not network.layer._forward_hooks


def test_upsampling_reaches_the_volume_and_keeps_the_range() -> None:
    coarse = torch.zeros(4, 4, 4)
    coarse[1, 2, 3] = 5.0
    fine = shown_map(coarse, (12, 12, 12))
    assert fine.shape == (12, 12, 12)
    assert fine.max() == 1
    assert (np.array(np.unravel_index(int(fine.argmax()), fine.shape)) // 3).tolist() == [1, 2, 3]


def test_overlay_has_a_row_per_map_and_is_red_where_the_map_is() -> None:
    volume, heat = (
        np.random.default_rng(0).normal(size=(2, 16, 16, 16)).astype(np.float32),
        np.zeros((16, 16, 16)),
    )
    heat[6:10, 6:10, 6:10] = 1
    picture = np.asarray(overlay(volume[0], [heat, np.zeros_like(heat)]))
    assert picture.shape == (3 * (192 + 4), 3 * (192 + 4), 3)
    middle = picture[196 + 96, 96].astype(int)
    assert middle[0] > middle[2] + 100
    top = picture[96, 96]
    assert top[0] == top[1] == top[2]
    np.testing.assert_array_equal(picture[:192, :192], picture[2 * 196 : 2 * 196 + 192, :192])


# ---- of a labeller -------------------------------------------------------------------------------


class Explained:
    """A labeller of two classes that offers its network."""

    classes = ("ball", "shell")

    def __init__(self, layer: bool = True) -> None:
        self.model, self.layer = Linear(torch.tensor([[1.0, 0.5], [0.5, 1.0]])), layer

    def label(self, data: Any, run: Run) -> Labels:
        with torch.no_grad():
            shares = self.model(run.volumes(data)[:]).softmax(1).numpy()
        return Labels(shares.argmax(1), shares, self.classes)

    def network(self) -> nn.Module:
        return self.model

    def feature_layer(self) -> nn.Module | None:
        return self.model.layer if self.layer else None


class Silent:
    classes = ("ball",)

    def label(self, data: Any, run: Run) -> Labels:
        raise AssertionError("not asked")


@pytest.fixture
def opened(tmp_path: Path) -> tuple[Any, Run]:
    from cryoet_core.plugins.config import Config

    path = kit_data.write_subtomograms(tmp_path / "set.h5", 12, per_class=2)
    return open_subtomograms(path), Run.create(
        "x", Config(), {"data": [path]}, tmp_path / "run", quiet=True
    )


def test_explains_the_class_that_was_given_or_asked(opened: tuple[Any, Run]) -> None:
    data, run = opened
    found = explain(Explained(), data, 3, run)
    assert found.predicted == found.class_name
    assert set(found.maps) == set(CAMS)
    np.testing.assert_allclose(found.volume, run.volumes(data)[3][0].numpy(), atol=1e-6)
    asked = explain(Explained(), data, 3, run, class_name="ball", cams=("grad-cam",))
    assert asked.class_name == "ball"
    assert list(asked.maps) == ["grad-cam"]


def test_what_cannot_be_explained_is_said(opened: tuple[Any, Run]) -> None:
    data, run = opened
    with pytest.raises(UserError, match="expected 0 to 5"):
        explain(Explained(), data, 6, run)
    with pytest.raises(UserError, match="no such class"):
        explain(Explained(), data, 0, run, class_name="bal")
    for labeller in (Silent(), Explained(layer=False)):
        with pytest.raises(UserError, match="offers no convolution"):
            explain(labeller, data, 0, run)
