"""Hold what a finished edss3d run knows: the network, and the size of a particle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_autoencoder.components import take_parts
from cryoet_autoencoder.dice import mean_agreement
from cryoet_autoencoder.labelfiles import FOLDER, write_labels, write_names
from cryoet_autoencoder.overlay import add_overlay
from cryoet_autoencoder.segmentation_network import EncoderDecoder3D
from cryoet_autoencoder.segmenting import on_grid, segmented
from cryoet_core.picks.table import Picks
from cryoet_core.runs.run import Run
from cryoet_core.tasks.survey import file_name
from cryoet_core.tomograms import Tomogram, Tomograms


class Segmenter:
    """Pick particles, and leave the labels of all voxels too.

    Parameters
    ----------
    network : EncoderDecoder3D
        Network that labels voxels.
    facts : Mapping[str, Any]
        class_names, voxel_size (Å), volumes (voxels of the network that a training particle of
        each class has), least_volume.
    """

    def __init__(self, network: EncoderDecoder3D, facts: Mapping[str, Any]) -> None:
        self.network, self.facts = network.eval(), dict(facts)
        self.class_names = tuple(facts["class_names"])

    @property
    def radius(self) -> float:
        """Radius in Å of a ball as large as a training particle of the largest class.

        It says how far a pick may lie off.
        """
        volume = (
            max(self.facts["volumes"], default=0.0)
            * (self.network.bin * self.facts["voxel_size"]) ** 3
        )
        return float((3 * volume / (4 * np.pi)) ** (1 / 3))

    def measure(self, truth: Tomograms, folder: Path) -> Mapping[str, float]:
        """Compare the labels in ``folder`` with the occupancy of simulated tomograms."""
        return mean_agreement(folder, truth)

    def pick(self, tomogram: Tomogram, run: Run) -> Picks:
        """Return the centres of mass of the connected parts of each class.

        The labels of all voxels in these go to segmentation/NAME.mrc in ``run.results``, on the
        tomogram's own voxels.
        """
        seen, bin = tomogram.at(self.facts["voxel_size"]), self.network.bin
        labels, own = segmented(self.network, seen, run)
        least = self.facts["least_volume"] * np.asarray(self.facts["volumes"])
        places, scores, classes = take_parts(labels, own, least.tolist())
        folder = run.results / FOLDER
        name = file_name(tomogram.name)
        write_labels(
            folder / f"{name}.mrc", on_grid(labels, bin, seen, tomogram), tomogram.voxel_size
        )
        write_names(folder, self.class_names)
        add_overlay(run, name, seen, labels, bin, self.class_names)
        positions = (places * bin + (bin - 1) / 2) * seen.voxel_size  # a binned voxel's middle
        positions = np.clip(positions, 0, tomogram.extent)
        return Picks.of(
            positions, tomogram.name, scores=scores, classes=classes, class_names=self.class_names
        )


# ---- files ---------------------------------------------------------------------------------------


def save(run: Run, name: str, segmenter: Segmenter) -> None:
    """Write the checkpoint that ``load`` reads.

    Parameters
    ----------
    run : Run
        The run: device, random numbers, log and checkpoints.
    name : str
        Name of the checkpoint.
    segmenter : Segmenter
        What is saved.
    """
    network = segmenter.network
    shape = {
        "classes": network.last.out_channels,
        "width": network.down1.out_channels,
        "bin": network.bin,
    }
    run.save(name, network.state_dict(), segmenter.facts | {"network": shape})


def load(run: Run, name: str) -> Segmenter | None:
    """Return what ``save`` wrote, or None where there is nothing."""
    saved = run.load(name)
    if saved is None:
        return None
    tensors, facts = saved
    network = EncoderDecoder3D(**facts.pop("network"))
    network.load_state_dict(tensors)
    return Segmenter(network.to(run.device), facts)
