"""Autoencoder3D with k-means: what is in a set of subtomograms, seen without labels (paper 002,
section II-A).

Particles are centred and turned to their principal axes, an autoencoder learns codes from which
they can be drawn again, k-means sorts the codes, and the decoder draws the clusters' centres:
noise-free pictures to choose from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cryoet_autoencoder import labeller as models
from cryoet_autoencoder.config import AutoencoderConfig
from cryoet_autoencoder.labeller import ClusterLabeller
from cryoet_autoencoder.learning import learn, pictured
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError

MODEL = "model"


class AutoencoderTrainer(Trainer):
    name, task = "autoencoder", "clustering"
    summary = (
        "explores subtomograms without labels: 3-D autoencoder, k-means, pictures of the "
        "clusters to choose from"
    )
    inputs: ClassVar = {"data": InputSpec("subtomograms to explore", labels="never")}
    Config = AutoencoderConfig
    tiny: ClassVar = {"k": 4, "restarts": 2, "width": 4, "code": 6, "epochs": 3, "batch_size": 12}

    def fit(self, inputs: Mapping[str, Any], run: Run) -> ClusterLabeller:
        finished = models.load(run, MODEL)
        if finished is not None:
            return finished
        labeller, counts, notes = learn(inputs["data"], self.config, run)
        scores = pictured(labeller, counts, run)
        if not scores.suggested.any():
            notes.append(
                "no cluster looks like a particle by the stated score; judge the pictures yourself"
            )
        run.write_json("notes.json", notes)
        models.save(run, MODEL, labeller)
        return self.load(run)

    def load(self, run: Run) -> ClusterLabeller:
        found = models.load(run, MODEL)
        if found is None:
            raise UserError(
                f"{run.dir}: holds no model; the run was not finished; see cryoet resume"
            )
        return found
