"""Hold the classifier that a run leaves: the target's branch, with calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_fsft.cubes import BATCH, Cubes
from cryoet_fsft.networks import TARGET, Networks
from cryoet_fsft.scoring import batch_statistics, batched_logits

MODEL = "model"


@dataclass
class DomainLabeller:
    """Classify target volumes.

    Attributes
    ----------
    networks : Networks
        Encoder of both domains and classifier.
    classes : tuple[str, ...]
        Names of the classes.
    temperature : float
        Divisor of the logits.
    facts : Mapping[str, Any]
        Box size, edge, network options, split of the run's own target, protocol.
    """

    networks: Networks
    classes: tuple[str, ...]
    temperature: float
    facts: Mapping[str, Any]

    @torch.no_grad()
    def label(self, data: Any, run: Run) -> Labels:
        """Label by softmax(logits / temperature), with the features as the embedding.

        Of volumes of the run's own target, ``extra["split"]`` says: 0 shot, 1 held out, 2 neither.
        Under the protocol of the paper all of them are 2, and the run's own target is labelled
        with statistics of its batches.
        """
        if data.box != self.facts["box"]:
            raise UserError(
                f"{data.paths[0]}: boxes of {data.box} voxels, but the run was trained on "
                f"{self.facts['box']}; "
                "expected the same; cut them again"
            )
        codes = self._split_of(data, run)
        paper = self.facts["protocol"] == "paper" and codes is not None and len(data) > 1
        networks, cubes = self.networks.to(run.device).eval(), Cubes(data, run, self.facts["edge"])
        with run.autocast():
            if paper:
                with batch_statistics(networks):
                    features = batched_logits(
                        len(data), run, lambda rows: networks.encode(cubes[rows], TARGET)[1]
                    )
            else:
                parts = torch.arange(len(data)).split(BATCH)
                features = torch.cat([networks.encode(cubes[rows], TARGET)[1] for rows in parts])
            logits = networks.classifier(features)
        probabilities = (logits.float() / self.temperature).softmax(1).cpu().numpy()
        extra = (
            {} if codes is None else {"split": np.full(len(data), 2, np.int8) if paper else codes}
        )
        labels = probabilities.argmax(1).astype(np.int64)
        return Labels(labels, probabilities, self.classes, features.float().cpu().numpy(), extra)

    def _split_of(self, data: Any, run: Run) -> np.ndarray | None:
        """Codes (n,) int8 of volumes of the run's own target; None for other data."""
        own = [Path(path).absolute() for path in run.inputs["target"]]
        if [Path(path).absolute() for path in data.paths] != own:
            return None
        sizes = self.facts["rows_of_files"]
        starts = np.cumsum([0, *sizes[:-1]])
        codes: np.ndarray = np.array(self.facts["split"], np.int8)[
            starts[data.source_file] + data.source_row
        ]
        return codes


def save(run: Run, labeller: DomainLabeller) -> None:
    """Write the model's checkpoint."""
    state = {
        "classes": labeller.classes,
        "temperature": labeller.temperature,
        "facts": dict(labeller.facts),
    }
    run.save(MODEL, labeller.networks.state_dict(), state)


def load(run: Run) -> DomainLabeller | None:
    """Return the model of a run, or None when it is not there yet."""
    saved = run.load(MODEL)
    if saved is None:
        return None
    tensors, state = saved
    networks = Networks(**state["facts"]["network"])
    networks.load_state_dict(tensors)
    return DomainLabeller(
        networks.eval(), tuple(state["classes"]), state["temperature"], state["facts"]
    )
