"""Show what is in a set of subtomograms without labels: Autoencoder3D with k-means.

Particles are centred and rotated to their principal axes, an autoencoder learns codes from which
they can be drawn again, k-means sorts the codes, and the decoder draws the clusters' centres:
noise-free pictures to choose from. See Uddin 2021, section II-A, and Zeng et al. (2018),
doi:10.1016/j.jsb.2017.12.015.
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
    """Sort subtomograms by autoencoder and k-means, and draw the clusters' centres.

    References
    ----------
    Zeng et al. (2018). A convolutional autoencoder approach for mining features in cellular
    electron cryo-tomograms and weakly supervised coarse segmentation. Journal of Structural
    Biology 202, 150-160. doi:10.1016/j.jsb.2017.12.015.
    """

    name, task = "autoencoder", "clustering"
    summary = (
        "explores subtomograms without labels: 3-D autoencoder, k-means, pictures of the "
        "clusters to choose from"
    )
    inputs: ClassVar = {"data": InputSpec("subtomograms to explore", labels="never")}
    Config = AutoencoderConfig
    tiny: ClassVar = {"k": 4, "restarts": 2, "width": 4, "code": 6, "epochs": 3, "batch_size": 12}

    def fit(self, inputs: Mapping[str, Any], run: Run) -> ClusterLabeller:
        """Train, or resume an interrupted training, and return what was learnt."""
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
        """Rebuild what ``fit`` returned from the run's folder."""
        found = models.load(run, MODEL)
        if found is None:
            raise UserError(
                f"{run.dir}: holds no model; the run was not finished; see cryoet resume"
            )
        return found
