"""Check whether a segmentation network has learnt its own labels: foreground Dice, by batches."""

from __future__ import annotations

import torch
from torch import Tensor

from cryoet_core.runs.run import Run

LEAST_DICE = 0.4
"""Foreground Dice on its training subtomograms below which a network has not learnt them. Networks
that had, on 34 and 41 subtomograms, reached 0.88 and 0.73 on those held out, others 0.00."""


class Overlap:
    """Count foreground voxels of found and of wanted labels."""

    def __init__(self, run: Run) -> None:
        self.run, self.sums = run, torch.zeros(2, dtype=torch.float64, device=run.device)

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits (n, c, d, h, w) and labels (n, d, h, w); foreground are all classes but 0."""
        found, wanted = logits.argmax(1) > 0, labels > 0
        self.sums += torch.stack((2 * (found & wanted).sum(), found.sum() + wanted.sum())).double()

    def dice(self) -> float:
        """Return the Dice of all batches of all processes since the last call.

        It is 1 where neither has a foreground voxel.
        """
        both, total = self.run.all_reduce(self.sums).tolist()
        self.sums = torch.zeros_like(self.sums)
        return float(both / total) if total else 1.0


def unlearnt(dice: float, run: Run) -> list[str]:
    """Say, now and in the notes, that a network does not even label its training subtomograms."""
    if dice >= LEAST_DICE:
        return []
    said = (
        "the segmentation network labels the subtomograms that it learnt from badly "
        f"(foreground Dice {dice:.2f}), and "
        "tomograms will be labelled no better; give more subtomograms, keep only clusters whose "
        "pictures show "
        "particles, or raise `least_updates` or `epochs`"
    )
    run.say(f"warning: {said}")
    return [said]
