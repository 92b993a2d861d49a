"""What a run has learnt, and how it picks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram
from cryoet_pu_picker.bands import BALL, Bands, widths_of
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.decoding import centres
from cryoet_pu_picker.heat import heat_map
from cryoet_pu_picker.network import HybridNetwork
from cryoet_pu_picker.species import Species

MODEL = "model"
EASED = 0.5
"""Share of the threshold that does for picks of other tomograms while fewer are found than
expected: the threshold is from training tomograms, where the network knows the labels."""
COARSER = 1.5
"""How much coarser than the network's voxels those of a tomogram may be."""


@dataclass(frozen=True)
class PUPicker:
    """A trained network with its species, the scores that their picks need, and the voxels (Å) that
    it looks at.

    expected: of each species the copies in a cubic Å, where their number was given; else 0.
    """

    network: HybridNetwork
    species: tuple[Species, ...]
    voxel_size: float
    copies: tuple[float, ...]
    expected: tuple[float, ...]
    thresholds: tuple[float, ...]
    config: PUPickerConfig

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(kind.name for kind in self.species)

    def pick(self, tomogram: Tomogram, run: Run) -> Picks:
        """Centres with scores in (0, 1), best first. UserError for voxels much coarser than those
        of training.
        """
        if tomogram.voxel_size > COARSER * self.voxel_size:
            raise UserError(
                f"{tomogram.where or tomogram.name}: voxels of {tomogram.voxel_size:g} Å, but the "
                "network looks at "
                f"{self.voxel_size:g} Å; expected at most {COARSER * self.voxel_size:g} Å; use a "
                "finer reconstruction"
            )
        scores = heat_map(self.network, tomogram.at(self.voxel_size), run, turns=self.config.turns)
        diameters = [kind.diameter for kind in self.species]
        lowest = [
            EASED * value if n else value
            for value, n in zip(self.thresholds, self.expected, strict=True)
        ]
        place, value, kind = centres(
            scores, self.voxel_size, diameters, lowest, self.config.spacing
        )
        volume = math.prod(tomogram.shape) * tomogram.voxel_size**3
        kept = expected_or_above(value, kind, [volume * n for n in self.expected], self.thresholds)
        place, value, kind = place[kept], value[kept], kind[kept]
        inside = np.clip(place, 0, tomogram.extent)
        return Picks.of(
            inside, tomogram.name, scores=value, classes=kind, class_names=self.class_names
        )


def expected_or_above(
    values: np.ndarray, kinds: np.ndarray, expected: Sequence[float], thresholds: Sequence[float]
) -> np.ndarray:
    """Rows, of scores (n,) best first and their species, at the threshold or among the best so many
    of a species.
    """
    kept = values >= np.asarray(thresholds)[kinds]
    for c, count in enumerate(expected):
        kept[np.flatnonzero(kinds == c)[: round(count)]] = True
    rows: np.ndarray = kept.nonzero()[0]
    return rows


def bands_of(config: PUPickerConfig, species: Sequence[Species], voxel_size: float) -> Bands:
    """What the network is shown of voxels of so many Å."""
    widths = widths_of([kind.diameter for kind in species], voxel_size) if config.bands else []
    across = [kind.diameter / voxel_size for kind in species]
    texture = (
        BALL * math.sqrt(min(across) * max(across)) if config.texture and config.bands else 0.0
    )
    return Bands(widths, config.clip, across if config.blob_prior else [], texture)


def build(config: PUPickerConfig, bands: Bands, priors: Sequence[float]) -> HybridNetwork:
    """An untrained network for these options, for species with these priors."""
    contrast = config.likeness and config.variant != "no-contrast" and config.lambda1 > 0
    temperature = config.temperature if contrast else None
    return HybridNetwork(
        config.backbone, config.width, config.levels, config.features, priors, bands, temperature
    )


def save(picker: PUPicker, run: Run) -> None:
    """Everything that picking needs, in one checkpoint."""
    state = {
        "species": [[kind.name, kind.diameter] for kind in picker.species],
        "voxel_size": picker.voxel_size,
        "copies": picker.copies,
        "expected": picker.expected,
        "thresholds": picker.thresholds,
        "config": picker.config.model_dump(mode="json"),
    }
    run.save(MODEL, picker.network.state_dict(), state)


def load(run: Run) -> PUPicker | None:
    """The picker that ``save`` wrote, None where there is none."""
    saved = run.load(MODEL)
    if saved is None:
        return None
    tensors, state = saved
    config = PUPickerConfig(**state["config"])
    species = tuple(Species(*pair) for pair in state["species"])
    network = build(config, bands_of(config, species, state["voxel_size"]), [0.1] * len(species))
    if tensors.keys() != network.state_dict().keys():
        raise UserError(
            f"{run.dir}: was trained by another version of pu_picker, whose network differs; "
            "expected one of this "
            "version; train it again in a new folder"
        )
    network.load_state_dict(tensors)
    network.to(run.device).eval()
    copies, expected, thresholds = (
        tuple(state[name]) for name in ("copies", "expected", "thresholds")
    )
    return PUPicker(network, species, state["voxel_size"], copies, expected, thresholds, config)
