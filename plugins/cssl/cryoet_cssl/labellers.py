"""Hold what a finished run knows: a classifier, or clusters of features, with the encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from cryoet_core.algorithms.mixtures.gmm import Mixture
from cryoet_core.algorithms.mixtures.selection import (
    Projection,
    candidates,
    choose,
    search,
    selection,
)
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.encoders import (
    CHECKPOINT,
    PREFIX,
    RECORD,
    build_encoder,
    encoder_record,
    encoder_tensors,
)
from cryoet_core.runs.run import Run
from cryoet_core.store import Subtomograms
from cryoet_core.support.errors import RunError, UserError
from cryoet_cssl.finetune import Classifier, scores_of
from cryoet_cssl.losses import unit
from cryoet_cssl.optimisers import under

REG_COVAR = 1e-5
"""Added to covariances, as a fraction of the mean variance, so that they stay invertible."""


class ClassifierLabeller:
    """Label subtomograms with the classes that the classifier has learnt.

    ``network`` and ``feature_layer`` serve ``cryoet explain``.

    Parameters
    ----------
    classifier : Classifier
        Encoder and linear classifier.
    classes : tuple[str, ...]
        Names of the classes, in the order of the scores.
    record : dict[str, Any]
        Record of the encoder, from which it can be built again.
    facts : dict[str, Any]
        Checksum of the run's own data and the split of its rows.
    """

    task = "classification"

    def __init__(
        self,
        classifier: Classifier,
        classes: tuple[str, ...],
        record: dict[str, Any],
        facts: dict[str, Any],
    ):
        self.classifier, self.classes, self.record, self.facts = (
            classifier.eval(),
            classes,
            record,
            facts,
        )

    def label(self, data: Any, run: Run) -> Labels:
        """Label by the softmax of the scores, with the encoder's features as the embedding.

        For the data of the run itself, ``extra`` holds the ``split``.
        """
        _check_box(data, self.record)
        features = scores_of(self.classifier.encoder, run.volumes(data), None, run)
        head = self.classifier.head
        with torch.no_grad():
            shares = head(features.to(head.weight.device)).softmax(1).cpu().numpy()
        own = data.without_labels().sha256 == self.facts["data"]
        extra = {"split": np.array(self.facts["split"], dtype=np.int8)} if own else {}
        return Labels(shares.argmax(1), shares, self.classes, features.numpy(), extra)

    def network(self) -> nn.Module:
        """Return the module from standardised volumes (n, 1, b, b, b) to scores (n, k)."""
        return self.classifier

    def feature_layer(self) -> nn.Module | None:
        """Return the last convolution block, whose output is (n, c, z, y, x), or None.

        It is None where the encoder names no such block.
        """
        layer: nn.Module | None = getattr(self.classifier.encoder, "last_block", None)
        return layer

    def save(self, run: Run) -> None:
        """Write the checkpoint that ``load`` reads."""
        tensors = encoder_tensors(self.classifier.encoder)
        tensors |= {
            f"head.{name}": value for name, value in self.classifier.head.state_dict().items()
        }
        run.save(
            CHECKPOINT,
            tensors,
            _state(self.record) | {"classes": self.classes, "facts": self.facts},
        )


class ClusterLabeller:
    """Label subtomograms by the Gaussian mixture of their features' principal components.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    projection : Projection
        Projection of features to principal components.
    mixture : Mixture
        Gaussian mixture of the components; each Gaussian is a cluster.
    record : dict[str, Any]
        Record of the encoder, from which it can be built again.
    """

    def __init__(
        self, encoder: nn.Module, projection: Projection, mixture: Mixture, record: dict[str, Any]
    ) -> None:
        self.encoder, self.projection, self.mixture, self.record = (
            encoder.eval(),
            projection,
            mixture,
            record,
        )
        self.classes = tuple(f"cluster{i + 1}" for i in range(mixture.k))

    def label(self, data: Any, run: Run) -> Labels:
        """Label by posterior probabilities, with the principal components as the embedding."""
        _check_box(data, self.record)
        points = self.projection(unit(scores_of(self.encoder, run.volumes(data), None, run)))
        shares = self.mixture.posterior(points).float().numpy()
        return Labels(shares.argmax(1), shares, self.classes, points.numpy())

    def save(self, run: Run) -> None:
        """Write the checkpoint that ``load`` reads."""
        mixture = self.mixture
        tensors = encoder_tensors(self.encoder) | {
            "projection.mean": self.projection.mean,
            "projection.axes": self.projection.axes,
            "mixture.weights": mixture.weights,
            "mixture.means": mixture.means,
            "mixture.covariances": mixture.covariances,
        }
        facts = {"log_likelihood": mixture.log_likelihood, "n": mixture.n}
        run.save(CHECKPOINT, tensors, _state(self.record) | {"facts": facts})


def fit_clusters(
    encoder: nn.Module,
    data: Subtomograms,
    rows: np.ndarray,
    record: dict[str, Any],
    config: Any,
    run: Run,
) -> ClusterLabeller:
    """Fit principal components to the features of ``rows``, then the mixture with the lowest BIC.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    data : Subtomograms
        Subtomograms, all of one box size.
    rows : np.ndarray
        Rows (m,) to cluster.
    record : dict[str, Any]
        Record of the encoder, from which it can be built again.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.

    Returns
    -------
    ClusterLabeller
        Labeller of the mixture, without clusters that have no member.
    """
    ks = candidates(config.k_min, config.k_max, len(rows))
    features = unit(scores_of(encoder, run.volumes(data), rows, run))
    projection = Projection.fit(
        features, min(config.dimensions, features.shape[1], max(1, len(rows) - 1))
    )
    points = projection(features)
    generator = run.generator("mixture")
    mixtures = search(points, ks, generator, restarts=config.restarts, reg=REG_COVAR)
    chosen = choose(mixtures)
    used = torch.bincount(mixtures[chosen].predict(points), minlength=chosen).nonzero()[:, 0]
    mixture = mixtures[chosen].select(used)
    run.write_json("model_selection.json", selection(mixtures, mixture.k))
    return ClusterLabeller(encoder, projection, mixture, record)


def load(run: Run) -> ClassifierLabeller | ClusterLabeller | None:
    """Return the labeller that a run has saved, on the run's device, or None where it has not."""
    saved = run.load(CHECKPOINT)
    if saved is None:
        return None
    tensors, state = saved
    record = state[RECORD]
    encoder = build_encoder(record["name"], record["box"], **record["options"])
    encoder.load_state_dict(under(PREFIX.removesuffix("."), tensors))
    encoder = encoder.to(run.device)
    if "classes" in state:
        classifier = Classifier(encoder, len(state["classes"])).to(run.device)
        classifier.head.load_state_dict(under("head", tensors))
        return ClassifierLabeller(classifier, tuple(state["classes"]), record, state["facts"])
    projection = Projection(tensors["projection.mean"], tensors["projection.axes"])
    mixture = Mixture(
        tensors["mixture.weights"],
        tensors["mixture.means"],
        tensors["mixture.covariances"],
        state["facts"]["log_likelihood"],
        state["facts"]["n"],
    )
    return ClusterLabeller(encoder, projection, mixture, record)


def loaded(run: Run) -> ClassifierLabeller | ClusterLabeller:
    """Return the labeller as ``load`` does.

    Raises
    ------
    RunError
        Where the run has saved none.
    """
    found = load(run)
    if found is None:
        raise RunError(
            f"{run.dir}: checkpoints/{CHECKPOINT}.safetensors is missing; run the method again"
        )
    return found


def _state(record: dict[str, Any]) -> dict[str, Any]:
    return encoder_record(record["name"], record["box"], **record["options"])


def _check_box(data: Subtomograms, record: dict[str, Any]) -> None:
    if data.box != record["box"]:
        raise UserError(
            f"the run was trained on subtomograms of {record['box']} voxels, the data set has "
            f"{data.box}; cut or resample the new subtomograms to the same box size and voxel size"
        )
