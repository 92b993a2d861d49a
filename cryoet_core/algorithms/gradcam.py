"""Where in a volume a network sees a class: Grad-CAM and Respond-CAM in three dimensions.

Grad-CAM: Selvaraju et al., ICCV 2017. Respond-CAM: Zhao et al., "Respond-CAM: analyzing deep models
for 3D imaging data by visualizations", MICCAI 2018. A labeller that can be explained has two
methods more, see ``Explainable``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cryoet_core.support.errors import UserError
from cryoet_core.support.names import close_names

if TYPE_CHECKING:
    from cryoet_core.runs.run import Run
    from cryoet_core.store import Subtomograms

Cam = Literal["grad-cam", "respond-cam"]
CAMS: tuple[Cam, ...] = get_args(Cam)


@runtime_checkable
class Explainable(Protocol):
    """What a labeller offers so that its answers can be explained."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""

    def network(self) -> nn.Module:
        """Standardised volumes (n, 1, d, h, w) -> scores (n, k) before the softmax."""

    def feature_layer(self) -> nn.Module | None:
        """The part of the network whose output (n, c, z, y, x) is looked at; None where there is
        none.
        """


@dataclass(frozen=True)
class Explanation:
    """One volume, why it is of one class. volume and maps: (d, h, w) float32; predicted: the most
    probable class.
    """

    class_name: str
    predicted: str
    probability: float
    volume: np.ndarray
    maps: dict[str, np.ndarray]


def activation_map(
    network: nn.Module, layer: nn.Module, volume: Tensor, class_index: int, cam: Cam
) -> Tensor:
    """The map (z, y, x) of a volume (1, 1, d, h, w) at the resolution of ``layer``, in units of the
    class's score.

    With A_c the activations of channel c and g_c the gradient of the score before the softmax:
    Grad-CAM is max(0, sum_c mean(g_c) A_c); Respond-CAM is sum_c sum(A_c g_c) / (sum(A_c) + 1e-10)
    A_c, whose sum over voxels is the score itself where the rest of the network is linear.
    """
    held: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[-1]

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            score = network(volume)[0, class_index]
    finally:
        hook.remove()
    (slopes,) = torch.autograd.grad(score, held[-1], allow_unused=True)
    activations = held[-1].detach()[0].double()
    gradients = torch.zeros_like(activations) if slopes is None else slopes[0].double()
    space = (1, 2, 3)
    if cam == "grad-cam":
        weights = gradients.mean(space)
    else:
        weights = (activations * gradients).sum(space) / (activations.sum(space) + 1e-10)
    found = torch.einsum("c,czyx->zyx", weights, activations)
    return (found.clamp(min=0) if cam == "grad-cam" else found).float()


def shown_map(found: Tensor, size: Sequence[int]) -> Tensor:
    """A map brought to the volume's ``size`` (trilinear) and to 0..1; what is negative or nowhere
    positive is 0.
    """
    fine: Tensor = interpolate(
        found[None, None], size=tuple(size), mode="trilinear", align_corners=False
    )[0, 0]
    fine = fine.clamp(min=0)
    return fine / fine.max() if fine.max() > 0 else fine


def explain(
    labeller: object,
    data: Subtomograms,
    index: int,
    run: Run,
    *,
    class_name: str | None = None,
    cams: Sequence[Cam] = CAMS,
) -> Explanation:
    """Maps of volume ``index`` for a class, without one for the class that the labeller gives it.

    UserError when the labeller cannot be explained, or there is no such volume or class.
    """
    network, layer = _parts(labeller, run)
    assert isinstance(labeller, Explainable)
    if not 0 <= index < len(data):
        raise UserError(
            f"`index` {index}: {data.paths[0]} has {len(data)} subtomograms; expected 0 to "
            f"{len(data) - 1}"
        )
    if class_name is not None and class_name not in labeller.classes:
        raise UserError(
            f"`class` {class_name}: the run has no such "
            f"class{close_names(class_name, labeller.classes)}"
        )
    labels = labeller.label(data.subset(np.array([index])).without_labels(), run)  # type: ignore[attr-defined]
    predicted = labeller.classes[int(labels.labels[0])]
    name = class_name or predicted
    chosen = labeller.classes.index(name)
    volume = run.volumes(data, np.array([index]))[0:1]
    network.eval()
    maps: dict[str, np.ndarray] = {
        cam: shown_map(activation_map(network, layer, volume, chosen, cam), volume.shape[2:])
        .cpu()
        .numpy()
        for cam in cams
    }
    return Explanation(
        name, predicted, float(labels.probabilities[0, chosen]), volume[0, 0].cpu().numpy(), maps
    )


def _parts(labeller: object, run: Run) -> tuple[nn.Module, nn.Module]:
    layer = labeller.feature_layer() if isinstance(labeller, Explainable) else None
    if layer is None:
        raise UserError(
            f"{run.dir}: the method {run.method} offers no convolution to explain; expected a run "
            "that ended as a "
            "classifier, such as one of `cryoet run supervised`"
        )
    assert isinstance(labeller, Explainable)
    return labeller.network(), layer
