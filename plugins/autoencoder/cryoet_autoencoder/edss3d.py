"""Label every voxel of a tomogram, learnt from clusters of subtomograms that a user kept (EDSS3D).

An autoencoder's clusters say which subtomograms are particles, its decoder which of their voxels:
nobody draws a label. The network that learns these labels is convolutional, so it segments whole
tomograms. See Uddin 2021 and Zeng et al. (2018), doi:10.1016/j.jsb.2017.12.015.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from cryoet_autoencoder import labeller as models
from cryoet_autoencoder import segmenter as segmenters
from cryoet_autoencoder.config import AutoencoderConfig
from cryoet_autoencoder.edss3d_config import Edss3dConfig
from cryoet_autoencoder.keep import Kept, kept_clusters
from cryoet_autoencoder.labelfiles import FOLDER, write_stack
from cryoet_autoencoder.labeller import ClusterLabeller
from cryoet_autoencoder.learning import learn
from cryoet_autoencoder.likeness import particle_scores
from cryoet_autoencoder.pictures import PICTURES, write_centres
from cryoet_autoencoder.segmentation_training import train
from cryoet_autoencoder.segmenter import Segmenter
from cryoet_autoencoder.segmenting import cube_labels
from cryoet_core.plugins.interfaces import InputSpec, Labels, Trainer
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError

MODEL, AUTOENCODER = "model", "autoencoder"


class Edss3dTrainer(Trainer):
    """Train a network that segments tomograms, on voxel labels from an autoencoder's clusters.

    References
    ----------
    Zeng et al. (2018). A convolutional autoencoder approach for mining features in cellular
    electron cryo-tomograms and weakly supervised coarse segmentation. Journal of Structural
    Biology 202, 150-160. doi:10.1016/j.jsb.2017.12.015.
    """

    name, task = "edss3d", "picking"
    summary = (
        "segments tomograms: learns from the clusters of an autoencoder run that you keep, "
        "without drawn labels"
    )
    inputs: ClassVar = {
        "subtomograms": InputSpec(
            "subtomograms to learn from; default: those of the run --clusters",
            labels="never",
            required=False,
        ),
        "data": InputSpec("tomograms to segment", kind="tomograms", labels="never"),
    }
    Config = Edss3dConfig
    tiny: ClassVar = {
        "k": 3,
        "autoencoder_epochs": 6,
        "width": 8,
        "learning_rate": 4e-3,
        "batch_size": 4,
        "epochs": 8,
        "patience": 8,
    }
    tiny_box = 16

    def fit(self, inputs: Mapping[str, Any], run: Run) -> Segmenter:
        """Train, or resume an interrupted training, and return what was learnt."""
        finished = segmenters.load(run, MODEL)
        if finished is not None:
            return finished
        labeller, data, notes = self._clusters(inputs.get("subtomograms"), run)
        found = labeller.label(data, run)
        kept = self._kept(labeller, found, run)
        network, volumes, more = train(
            labeller, data, found, kept, self.config, run, "segmentation"
        )
        facts = {
            "class_names": kept.names,
            "voxel_size": data.voxel_size,
            "volumes": volumes,
            "least_volume": self.config.least_volume,
        }
        if self.config.label_subtomograms and run.rank == 0:
            path = run.dir / FOLDER / "subtomograms.mrcs"
            write_stack(path, cube_labels(network, data, run), len(data), data.box, data.voxel_size)
        run.write_json("notes.json", notes + more)
        segmenters.save(run, MODEL, Segmenter(network, facts))
        return self.load(run)

    def load(self, run: Run) -> Segmenter:
        """Rebuild what ``fit`` returned from the run's folder."""
        found = segmenters.load(run, MODEL)
        if found is None:
            raise UserError(
                f"{run.dir}: holds no model; the run was not finished; see cryoet resume"
            )
        return found

    # ---- the clusters

    def _clusters(self, given: Any, run: Run) -> tuple[ClusterLabeller, Any, list[str]]:
        """Return the clusters to choose from, the subtomograms to learn from, and notes."""
        if self.config.clusters:
            labeller, theirs = finished_clusters(Path(self.config.clusters), run)
            return labeller, theirs if given is None else given, []
        if given is None:
            raise UserError(
                "`clusters`: missing; expected the folder of a run of autoencoder, or "
                "`subtomograms`"
            )
        made = models.load(run, AUTOENCODER)
        if made is not None:
            return made, given, (run.read_json("autoencoder_notes.json") or [])
        options = {"k": self.config.k, "epochs": self.config.autoencoder_epochs}
        chosen = {name: value for name, value in options.items() if value is not None}
        config = AutoencoderConfig.from_layers(run.preset or "fast", {}, chosen)
        labeller, _, notes = learn(given, config, run, "autoencoder_training", "autoencoder")
        run.write_json("autoencoder_notes.json", notes)
        models.save(run, AUTOENCODER, labeller)
        return labeller, given, notes

    def _kept(self, labeller: ClusterLabeller, found: Labels, run: Run) -> Kept:
        counts = np.bincount(found.labels, minlength=len(labeller.classes))
        pictures = labeller.decoded(labeller.clusters.centres)
        suggested = particle_scores(pictures, torch.from_numpy(counts)).suggested.numpy()
        kept = kept_clusters(self.config.keep, labeller.classes, suggested)
        chosen = np.flatnonzero(kept.classes)
        run.say(
            "kept: "
            + ", ".join(
                f"{labeller.classes[i]} ({kept.names[kept.classes[i] - 1]})" for i in chosen
            )
        )
        if run.rank == 0:
            captions = [
                f"{name}, {counts[i]} members: {kept.names[kept.classes[i] - 1]}"
                for i, name in enumerate(labeller.classes)
            ]
            note = (
                "Central xy, xz and yz slices of the decoded centres, and the class that they "
                "stand for."
            )
            entries = write_centres(run.dir, pictures.numpy(), captions, chosen.tolist())
            run.write_json(
                PICTURES, [{"title": "Clusters that were kept", "note": note, "pictures": entries}]
            )
        return kept


def finished_clusters(folder: Path, run: Run) -> tuple[ClusterLabeller, Any]:
    """Return what a finished run of ``autoencoder`` has learnt, and its subtomograms.

    Parameters
    ----------
    folder : Path
        Folder of that run.
    run : Run
        The run that takes it over, to whose device it goes.

    Returns
    -------
    tuple[ClusterLabeller, Any]
        The labeller and the subtomograms without labels.

    Raises
    ------
    UserError
        Where the folder is no such run.
    """
    from cryoet_core.store import open_subtomograms

    other = Run.open(folder, device=run.device.type, quiet=True)
    if other.method != "autoencoder":
        raise UserError(
            f"`clusters` {folder}: a run of {other.method}; expected one of autoencoder"
        )
    labeller = models.load(other, MODEL)
    if labeller is None:
        raise UserError(
            f"`clusters` {folder}: this run is not finished; resume it with: cryoet resume {folder}"
        )
    labeller.model.to(run.device)
    return labeller, open_subtomograms(other.inputs["data"]).without_labels()
