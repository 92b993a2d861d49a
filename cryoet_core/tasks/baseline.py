"""Clustering without learning: centred, described by rotation invariants, projected, mixed. Seconds
for thousands.

The plugin ``invariants`` runs it as a method; every report of another clustering method shows its
score beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from cryoet_core.algorithms.centring import Centring, sample_rows
from cryoet_core.algorithms.descriptors import Invariants
from cryoet_core.algorithms.mixtures.gmm import Mixture
from cryoet_core.algorithms.mixtures.selection import (
    Projection,
    Scaling,
    candidates,
    choose,
    search,
    selection,
)
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    from cryoet_core.runs.run import Run
    from cryoet_core.runs.volumes import DeviceVolumes
    from cryoet_core.store import Subtomograms

_BATCH = 256


@dataclass
class Yardstick:
    """A fitted labeller; see ``Yardstick.fit``."""

    NAME: ClassVar[str] = "invariants"
    """The name of this clustering in reports, where it stands beside other methods."""

    centring: Centring
    invariants: Invariants
    scaling: Scaling
    projection: Projection
    mixture: Mixture
    facts: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"cluster{i + 1}" for i in range(self.mixture.k))

    @classmethod
    def fit(
        cls,
        data: Subtomograms,
        run: Run,
        *,
        k_min: int = 2,
        k_max: int = 15,
        dimensions: int = 16,
        restarts: int = 5,
        reg_covar: float = 1e-5,
        max_shift: float = 6.0,
    ) -> tuple[Yardstick, dict[str, object]]:
        """Choose K by BIC in k_min..k_max; the labeller and what model_selection.json holds.

        ``max_shift`` is in voxels. UserError for fewer volumes than clusters.
        """
        ks = candidates(k_min, k_max, len(data))
        volumes = run.volumes(data)
        some = sample_rows(len(volumes))
        centring = Centring.fit(
            lambda: volumes.batches(_BATCH, some), data.box, max_shift, run.device
        )
        invariants = Invariants(data.box, data.tilt_range, data.tilt_axis, run.device)
        blocks = _described(volumes, centring, invariants)
        scaling = Scaling.fit(blocks)
        features = scaling(blocks)
        projection = Projection.fit(
            features, min(dimensions, features.shape[1], max(1, len(data) - 1))
        )
        mixtures = search(
            projection(features), ks, run.generator("invariants"), restarts=restarts, reg=reg_covar
        )
        chosen = choose(mixtures)
        mixture = mixtures[chosen]
        used = torch.bincount(mixture.predict(projection(features)), minlength=chosen).nonzero()[
            :, 0
        ]
        mixture = mixture.select(used)
        facts = {
            "box": data.box,
            "tilt_range": data.tilt_range,
            "tilt_axis": data.tilt_axis,
            "max_shift": max_shift,
        }
        return cls(centring, invariants, scaling, projection, mixture, facts), selection(
            mixtures, mixture.k
        )

    def label(self, data: Subtomograms, run: Run) -> Labels:
        """Posterior probabilities and the projected descriptors as the embedding."""
        if data.box != self.facts["box"]:
            raise UserError(
                f"the run was trained on cubes of {self.facts['box']} voxels, the data set has "
                f"{data.box}; "
                "cut or resample the new cubes to the same box and voxel size"
            )
        points = self.projection(
            self.scaling(_described(run.volumes(data), self.centring, self.invariants))
        )
        shares = self.mixture.posterior(points).float().cpu().numpy()
        return Labels(shares.argmax(1), shares, self.classes, points.float().cpu().numpy())

    def save(self, run: Run, name: str) -> None:
        tensors = {
            "centring.template": self.centring.template,
            "centring.whitening": self.centring.whitening,
            "scaling.mean": self.scaling.mean,
            "scaling.scale": self.scaling.scale,
            "projection.mean": self.projection.mean,
            "projection.axes": self.projection.axes,
            "mixture.weights": self.mixture.weights,
            "mixture.means": self.mixture.means,
            "mixture.covariances": self.mixture.covariances,
        }
        facts = self.facts | {
            "spread": self.centring.spread,
            "log_likelihood": self.mixture.log_likelihood,
            "n": self.mixture.n,
        }
        run.save(name, {key: value.cpu().contiguous() for key, value in tensors.items()}, facts)

    @classmethod
    def load(cls, run: Run, name: str) -> Yardstick:
        """RunError where the run has no such checkpoint."""
        from cryoet_core.support.errors import RunError

        saved = run.load(name)
        if saved is None:
            raise RunError(
                f"{run.dir}: checkpoints/{name}.safetensors is missing; run the method again"
            )
        tensors, facts = saved
        t = {key: value.to(run.device) for key, value in tensors.items()}
        tilt_range = tuple(facts["tilt_range"]) if facts["tilt_range"] else None
        return cls(
            Centring(
                t["centring.template"], t["centring.whitening"], facts["max_shift"], facts["spread"]
            ),
            Invariants(facts["box"], tilt_range, facts["tilt_axis"], run.device),
            Scaling(t["scaling.mean"], t["scaling.scale"]),
            Projection(t["projection.mean"], t["projection.axes"]),
            Mixture(
                t["mixture.weights"],
                t["mixture.means"],
                t["mixture.covariances"],
                facts["log_likelihood"],
                facts["n"],
            ),
            facts,
        )


def _described(
    volumes: DeviceVolumes, centring: Centring, invariants: Invariants
) -> list[torch.Tensor]:
    parts = [invariants(centring.centred(batch)) for batch in volumes.batches(_BATCH)]
    return [torch.cat(blocks) for blocks in zip(*parts, strict=True)]
