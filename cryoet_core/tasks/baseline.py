"""The baseline of clustering methods, without learning; it takes seconds for thousands of volumes.

Subtomograms are centred, described by rotation invariants, projected, and clustered by a Gaussian
mixture. The plugin ``invariants`` runs it as a method; every report of another clustering method
shows its score beside it.
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
    """A fitted labeller, the baseline of clustering methods; see ``Yardstick.fit``.

    Attributes
    ----------
    centring : Centring
        Brings particles to the middle of the box.
    invariants : Invariants
        Descriptors that do not depend on the rotation of a particle.
    scaling : Scaling
        Brings descriptors to one scale.
    projection : Projection
        Their principal components.
    mixture : Mixture
        The clusters.
    facts : dict
        Box size, tilt range, tilt axis and largest shift of the data that it was fitted on.
    """

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
        """Names of the clusters."""
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
        """Fit mixtures for every number of clusters and choose one by BIC.

        Parameters
        ----------
        data : Subtomograms
            The data.
        run : Run
            Gives the device and the random numbers.
        k_min, k_max : int
            Smallest and largest number of clusters.
        dimensions : int
            Principal components that are clustered.
        restarts : int
            Starts of each mixture.
        reg_covar : float
            Added to covariances, as a fraction of the mean variance.
        max_shift : float
            How far a particle may lie from the centre of the box, in voxels.

        Returns
        -------
        fitted : Yardstick
            The labeller.
        selection : dict
            What model_selection.json holds.

        Raises
        ------
        UserError
            Fewer subtomograms than clusters.
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

    def label(self, data: Any, run: Run) -> Labels:
        """Posterior probabilities, with the projected descriptors as the embedding.

        Raises
        ------
        UserError
            Another box size than that of the data that it was fitted on.
        """
        if data.box != self.facts["box"]:
            raise UserError(
                f"the run was trained on subtomograms of box size {self.facts['box']}, the data "
                f"set has {data.box}; extract the particles with `box` {self.facts['box']} at the "
                "voxel size of training"
            )
        points = self.projection(
            self.scaling(_described(run.volumes(data), self.centring, self.invariants))
        )
        probabilities = self.mixture.posterior(points).float().cpu().numpy()
        return Labels(
            probabilities.argmax(1), probabilities, self.classes, points.float().cpu().numpy()
        )

    def save(self, run: Run, name: str) -> None:
        """Write the checkpoint ``name`` of the run."""
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
        """Read the checkpoint ``name`` of the run.

        Raises
        ------
        RunError
            The run has no such checkpoint.
        """
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
