"""What a finished run knows, and how it names subtomograms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoet_core.algorithms.centring import Centring
from cryoet_core.algorithms.descriptors import Invariants
from cryoet_core.algorithms.mixtures.gmm import Mixture
from cryoet_core.algorithms.mixtures.selection import Projection, Scaling
from cryoet_core.algorithms.pose_mixture import Parameters
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_disca.config import DiscaConfig
from cryoet_disca.features import BATCH, FeatureSpace
from cryoet_disca.network import same_network
from cryoet_disca.refine import mixture as pose_mixture

MODEL = "model"
CHUNK = 4096


class DiscaLabeller:
    """Labels by the densities where the run was refined, else by the mixture of the best round."""

    def __init__(
        self,
        space: FeatureSpace,
        mixture: Mixture,
        densities: Parameters | None,
        facts: dict[str, Any],
        spread: float = 1.0,
    ) -> None:
        self.spread = spread  # of shifts, in the refinement
        self.space, self.mixture, self.densities, self.facts = space, mixture, densities, facts
        if densities is None:
            names = [f"cluster{i + 1}" for i in range(mixture.k)]
        else:
            names = [f"cluster{i + 1}" for i in range(len(densities.templates))]
            names += ["empty"] * (len(densities.weights) - len(densities.templates))
        self.classes = tuple(names)

    def label(self, data: Any, run: Run) -> Labels:
        if data.box != self.facts["box"]:
            raise UserError(
                f"the run was trained on cubes of {self.facts['box']} voxels, the data set has "
                f"{data.box}; "
                "cut or resample the new cubes to the same box and voxel size"
            )
        volumes = run.volumes(data)
        points = self.space.points(volumes, run)
        extra: dict[str, np.ndarray] = {}
        if self.densities is None:
            shares = self.mixture.posterior(points)
        else:
            shares, extra = self._by_density(volumes, data, run)
        shares = shares.float().cpu()
        return Labels(
            shares.argmax(1).numpy(),
            shares.numpy(),
            self.classes,
            points.float().cpu().numpy(),
            extra,
        )

    def _by_density(
        self, volumes: Any, data: Any, run: Run
    ) -> tuple[Tensor, dict[str, np.ndarray]]:
        config = DiscaConfig(**self.facts["config"])
        model = pose_mixture(data, config, run)
        densities = self.densities
        assert densities is not None
        shares, turns, shifts = [], [], []
        for rows in run.progress(list(torch.arange(len(volumes)).split(CHUNK)), "labelling"):
            first = torch.cat(
                [self.space.centring.shifts(volumes[part]) for part in rows.split(BATCH)]
            )

            def some(part: Tensor, rows: Tensor = rows) -> Tensor:
                taken: Tensor = volumes[rows[part]]
                return taken

            found = model.label(
                some,
                len(rows),
                densities,
                first,
                self.spread,
            )
            shares.append(found.probabilities)
            turns.append(found.rotations)
            shifts.append(found.shifts)
        extra = {
            "rotations": torch.cat(turns).cpu().numpy(),
            "shifts": torch.cat(shifts).cpu().numpy(),
        }
        return torch.cat(shares), extra


# ---- files ---------------------------------------------------------------------------------------


def save(run: Run, name: str, labeller: DiscaLabeller) -> None:
    """Everything that labelling needs, in one checkpoint."""
    space, mixture = labeller.space, labeller.mixture
    tensors = {
        "projection.mean": space.projection.mean,
        "projection.axes": space.projection.axes,
        "centring.template": space.centring.template,
        "centring.whitening": space.centring.whitening,
        "mixture.weights": mixture.weights,
        "mixture.means": mixture.means,
        "mixture.covariances": mixture.covariances,
    }
    if space.scaling is not None:
        tensors |= {"scaling.mean": space.scaling.mean, "scaling.scale": space.scaling.scale}
    if space.network is not None:
        tensors |= {f"network.{key}": value for key, value in space.network.state_dict().items()}
    if labeller.densities is not None:
        densities = labeller.densities
        tensors |= {
            "densities.templates": densities.templates,
            "densities.weights": densities.weights,
            "densities.noise": densities.noise,
        }
    facts = labeller.facts | {
        "max_shift": space.centring.max_shift,
        "centring_spread": space.centring.spread,
        "spread": labeller.spread,
        "log_likelihood": mixture.log_likelihood,
        "n": mixture.n,
        "invariants": space.invariants is not None,
    }
    run.save(
        name, {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, facts
    )


def load(run: Run, name: str) -> DiscaLabeller | None:
    """The labeller that ``save`` wrote, None where there is none."""
    saved = run.load(name)
    if saved is None:
        return None
    tensors, facts = saved
    device = run.device

    def get(key: str) -> Tensor:
        return tensors[key].to(device)

    config = DiscaConfig(**facts["config"])
    network = None
    weights = {
        k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")
    }
    if weights:
        network = same_network(config, facts.get("encoder")).to(device)
        network.load_state_dict(weights)
        network.eval()
    tilt_range = tuple(facts["tilt_range"]) if facts["tilt_range"] else None
    invariants = (
        Invariants(facts["box"], tilt_range, facts["tilt_axis"], device)
        if facts["invariants"]
        else None
    )
    space = FeatureSpace(
        network,
        invariants,
        Centring(
            get("centring.template"),
            get("centring.whitening"),
            facts["max_shift"],
            facts["centring_spread"],
        ),
        Scaling(get("scaling.mean"), get("scaling.scale")) if "scaling.mean" in tensors else None,
        Projection(get("projection.mean"), get("projection.axes")),
    )
    mixture = Mixture(
        get("mixture.weights"),
        get("mixture.means"),
        get("mixture.covariances"),
        facts["log_likelihood"],
        facts["n"],
    )
    densities = None
    if "densities.templates" in tensors:
        densities = Parameters(
            get("densities.templates"), get("densities.weights"), get("densities.noise")
        )
    return DiscaLabeller(space, mixture, densities, facts, facts["spread"])
