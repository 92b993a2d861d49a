"""Define the methods: simclr, moco and swav, which pretrain, and supervised.

Pretraining ends in clusters or, with labels, in a classifier. Read ``SelfSupervised.fit`` and
``Supervised.fit`` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from cryoet_core.algorithms.mixtures.selection import candidates
from cryoet_core.plugins.interfaces import InputSpec, Labeller, Trainer
from cryoet_core.runs.encoders import RECORD, build_encoder, encoder_record, pretrained_encoder
from cryoet_core.runs.run import Run
from cryoet_core.store import Subtomograms
from cryoet_core.support.errors import UserError
from cryoet_cssl import labellers
from cryoet_cssl.config import MocoConfig, SimclrConfig, SupervisedConfig, SwavConfig
from cryoet_cssl.finetune import Classifier, fine_tune, scores_of
from cryoet_cssl.labellers import ClassifierLabeller, fit_clusters
from cryoet_cssl.objectives import MocoObjective, Objective, SimclrObjective, SwavObjective
from cryoet_cssl.parts import Parts, parts_of, rows_without_labels
from cryoet_cssl.plan import planned
from cryoet_cssl.pretrain import pretrain
from cryoet_cssl.readouts import neighbour_accuracy, probe_weights, readouts
from cryoet_cssl.views import Views

SCRATCH, TUNED = 1e-3, 5e-5
"""Learning rates of fine-tuning from random weights and from pretrained ones, where none is given.
"""

TINY: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "k_min": 1,
    "k_max": 4,
    "dimensions": 4,
    "restarts": 2,
}


class SelfSupervised(Trainer):
    """Pretrain an encoder on two views of each subtomogram, then cluster or classify.

    A classifier learns from a fraction of the labels; without one the features are clustered.
    """

    task = "clustering"
    inputs: ClassVar = {
        "data": InputSpec("subtomograms; labels are used with --label-fraction alone")
    }
    tiny: ClassVar = TINY
    tiny_box = 12
    objective: ClassVar[type[Objective]]

    def fit(self, inputs: Mapping[str, Any], run: Run) -> Labeller:
        """Train, or resume an interrupted training, and return what was learnt."""
        data, fraction = inputs["data"], self.config.label_fraction
        finished = labellers.load(run)
        if finished is not None:
            return finished
        if fraction is None:
            return self._sorted(data.without_labels(), run)
        parts = parts_of(data, fraction, run.seed)
        encoder, record, notes = self.pretrained(
            data.without_labels(), parts.train, run, (data.labels, parts)
        )
        return taught(encoder, record, data, parts, self.config, run, notes, pretrained=True)

    def load(self, run: Run) -> Labeller:
        """Rebuild what ``fit`` returned from the run's folder."""
        return labellers.loaded(run)

    def _sorted(self, data: Subtomograms, run: Run) -> Labeller:
        """No label is seen: pretrain, then a mixture of the features."""
        rows = rows_without_labels(data)
        candidates(self.config.k_min, self.config.k_max, len(rows))
        encoder, record, notes = self.pretrained(data, rows, run)
        run.write_json("notes.json", notes)
        with run.timer("cluster"):
            fit_clusters(encoder, data, rows, record, self.config, run).save(run)
        return self.load(run)

    def pretrained(
        self,
        data: Subtomograms,
        rows: np.ndarray,
        run: Run,
        known: tuple[np.ndarray, Parts] | None = None,
    ) -> tuple[nn.Module, dict[str, Any], list[str]]:
        """Train an encoder on ``rows`` without labels.

        Parameters
        ----------
        data : Subtomograms
            Subtomograms, all of one box size.
        rows : np.ndarray
            Rows (m,) to learn from, two at least.
        run : Run
            The run: device, random numbers, log and checkpoints.
        known : tuple[np.ndarray, Parts] | None, optional
            Labels and parts for the accuracy in the log, which changes nothing; None for no
            labels.

        Returns
        -------
        tuple[nn.Module, dict[str, Any], list[str]]
            The encoder, its record and notes for the report.

        Raises
        ------
        UserError
            Where there are fewer than two subtomograms.
        """
        if len(rows) < 2:
            raise UserError(
                f"{data.paths[0]}: {len(rows)} subtomogram to learn from; expected 2 or more"
            )
        config, chosen = planned(self.config, len(rows))
        for note in chosen:
            run.say(note)
        encoder, record = fresh_encoder(config, data.box, run)
        objective = self.objective(encoder, config, run.all_gather).to(run.device)
        volumes = run.volumes(data)

        def monitor(epoch: int) -> dict[str, float]:
            last, every = config.epochs - 1, max(1, config.epochs // 10)
            if known is None or (epoch % every and epoch != last):
                return {}
            accuracy = neighbour_accuracy(encoder, volumes, *known, run)
            return {} if accuracy is None else {"neighbour_accuracy": accuracy}

        notes = pretrain(
            objective, volumes, rows, views_for(data, config, run), config, run, monitor
        )
        return encoder, record, [*chosen, *notes]


class Simclr(SelfSupervised):
    """Pretrain with SimCLR: the partner among the other views of the batch."""

    name = "simclr"
    summary = (
        "self-supervised pretraining: finds the other view of a subtomogram in its batch (SimCLR)"
    )
    Config = SimclrConfig
    objective = SimclrObjective


class Moco(SelfSupervised):
    """Pretrain with MoCo: the partner among keys of earlier batches."""

    name = "moco"
    summary = (
        "self-supervised pretraining: finds the other view among a queue of earlier ones (MoCo)"
    )
    Config = MocoConfig
    objective = MocoObjective
    tiny: ClassVar = TINY | {"queue": 24}


class Swav(SelfSupervised):
    """Pretrain with SwAV: each view predicts the prototypes of the other."""

    name = "swav"
    summary = "self-supervised pretraining: two views predict each other's prototypes (SwAV)"
    Config = SwavConfig
    objective = SwavObjective
    tiny: ClassVar = TINY | {"prototypes": 8, "queue": 24, "freeze": 1, "warm_up": 0.5}


class Supervised(Trainer):
    """Train a classifier from labelled subtomograms, its encoder fresh or from another run."""

    name, task = "supervised", "classification"
    summary = "a classifier from labelled subtomograms, from scratch or from a pretrained encoder"
    inputs: ClassVar = {
        "data": InputSpec("labelled subtomograms; --label-fraction uses some", labels="required")
    }
    Config = SupervisedConfig
    tiny: ClassVar = {"fine_tune_epochs": 2, "fine_tune_batch": 8}
    tiny_box = 12

    def fit(self, inputs: Mapping[str, Any], run: Run) -> Labeller:
        """Train, or resume an interrupted training, and return what was learnt."""
        data, config = inputs["data"], self.config
        finished = labellers.load(run)
        if finished is not None:
            return finished
        parts = parts_of(data, config.label_fraction, run.seed)
        if config.weights is None:
            encoder, record = fresh_encoder(config, data.box, run)
        else:
            encoder, record = pretrained_encoder(
                config.weights, box=data.box, expect=config.encoder
            )
        encoder = encoder.to(run.device)
        return taught(
            encoder, record, data, parts, config, run, [], pretrained=config.weights is not None
        )

    def load(self, run: Run) -> Labeller:
        """Rebuild what ``fit`` returned from the run's folder."""
        return labellers.loaded(run)


# ---- steps that they share -----------------------------------------------------------------------


def fresh_encoder(config: Any, box: int, run: Run) -> tuple[nn.Module, dict[str, Any]]:
    """Build the encoder that the options name, with weights drawn by the seed.

    Parameters
    ----------
    config : Any
        Options of the run.
    box : int
        Box size in voxels.
    run : Run
        The run: device, random numbers, log and checkpoints.

    Returns
    -------
    tuple[nn.Module, dict[str, Any]]
        The encoder on the run's device, and its record.
    """
    options = {"head": config.head} if config.encoder == "cssl.rb3d" else {}
    same_on_every_process("encoder", run)
    encoder = build_encoder(config.encoder, box, **options).to(run.device)
    return encoder, encoder_record(config.encoder, box, **options)[RECORD]


def same_on_every_process(what: str, run: Run) -> None:
    """Seed the weights that are drawn next by the run's seed, equal on every process."""
    torch.manual_seed(run.generator(what).initial_seed())


def views_for(data: Subtomograms, config: Any, run: Run) -> Views:
    """Build the views of a data set.

    Parameters
    ----------
    data : Subtomograms
        Subtomograms, all of one box size.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    return Views(config, data.box, data.voxel_size, data.tilt_range, data.tilt_axis, run.device)


def taught(
    encoder: nn.Module,
    record: dict[str, Any],
    data: Subtomograms,
    parts: Parts,
    config: Any,
    run: Run,
    notes: list[str],
    *,
    pretrained: bool,
) -> Labeller:
    """Fine-tune on the learnt part, write the read-outs before and after, and save the classifier.

    A pretrained encoder gets a classifier that fits it and small steps, which do not undo what it
    has learnt.

    Parameters
    ----------
    encoder : nn.Module
        Encoder to start from.
    record : dict[str, Any]
        Record of the encoder, from which it can be built again.
    data : Subtomograms
        Subtomograms, all of one box size.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    notes : list[str]
        Notes of the pretraining.
    pretrained : bool
        Whether the encoder is pretrained.

    Returns
    -------
    Labeller
        The saved labeller.
    """
    volumes = run.volumes(data)
    with run.timer("read-outs"):
        table = readouts(encoder, volumes, data.labels, parts, run)
    same_on_every_process("classifier", run)
    network = Classifier(encoder, len(data.class_names)).to(run.device)
    rate = config.fine_tune_rate or (TUNED if pretrained else SCRATCH)
    if config.head_start == "probe" or (config.head_start == "auto" and pretrained):
        weights, biases = probe_weights(
            scores_of(encoder, volumes, parts.learnt, run).numpy(),
            data.labels[parts.learnt],
            len(data.class_names),
        )
        network.start_from(torch.from_numpy(weights), torch.from_numpy(biases))
    notes = [*notes, *_missing(data, parts)]
    notes += fine_tune(
        network, volumes, data.labels, parts, views_for(data, config, run), rate, config, run
    )
    run.write_json("notes.json", notes)
    facts = {"data": data.without_labels().sha256, "split": parts.codes.tolist()}
    found = ClassifierLabeller(network, data.class_names, record, facts)
    predicted = found.label(data, run).labels
    accuracies = [
        float((predicted[rows] == data.labels[rows]).mean()) if len(rows) else None
        for rows in (parts.val, parts.test)
    ]
    run.write_json("tables.json", [_table([["fine-tuned", *accuracies], *table], parts, config)])
    found.save(run)
    return labellers.loaded(run)


def _missing(data: Subtomograms, parts: Parts) -> list[str]:
    """Write a note where classes have no subtomogram to learn from."""
    taught_classes = set(np.unique(data.labels[parts.learnt]).tolist())
    lacking = [name for index, name in enumerate(data.class_names) if index not in taught_classes]
    return (
        [f"no subtomogram to learn from of {', '.join(lacking)}: never predicted"]
        if lacking
        else []
    )


def _table(rows: list[list[Any]], parts: Parts, config: Any) -> dict[str, Any]:
    counts = (
        f"{len(parts.learnt)} of {len(parts.labelled)} training labels, {len(parts.val)} "
        "validation subtomograms, "
    )
    return {
        "title": "Accuracy from the labels learnt",
        "columns": ["read-out", "validation", "test"],
        "rows": [
            [name, *(None if x is None else round(x, 4) for x in numbers)]
            for name, *numbers in rows
        ],
        "note": counts
        + f"{len(parts.test)} test subtomograms; the probe and the neighbours see the encoder "
        "before fine-tuning",
    }
