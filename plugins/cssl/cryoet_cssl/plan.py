"""Fill in options that no constant suits, from the number of subtomograms and of steps.

The published constants belong to 37,600 steps on 3,000 subtomograms. What carries over to a small
set are ratios.
"""

from __future__ import annotations

from typing import Any

LOOK_BACK = 40
"""The key encoder of MoCo averages over 1 / 40 of the run: 0.999 at the published steps."""
QUEUE_SHARE = 4
"""A longer queue, above a quarter of the subtomograms, holds other views of those compared."""


def steps_of(cubes: int, batch: int, epochs: int) -> int:
    """Return the steps of a pretraining; see ``pretrain.shuffled``.

    Parameters
    ----------
    cubes : int
        Number of subtomograms.
    batch : int
        Subtomograms in a step.
    epochs : int
        Passes over the subtomograms.

    Examples
    --------
    >>> steps_of(100, 32, 2)
    6
    """
    return epochs * max(1, min(cubes // batch, cubes // 2))


def planned(config: Any, cubes: int) -> tuple[Any, list[str]]:
    """Return the configuration without open options, and a note of what was chosen.

    Only options that are none change.
    """
    steps = steps_of(cubes, config.batch_size, config.epochs)
    values = {
        "queue": max(1, cubes // QUEUE_SHARE),
        "momentum": round(max(0.0, 1 - LOOK_BACK / steps), 4),
    }
    chosen = {name: value for name, value in values.items() if getattr(config, name, 0) is None}
    if not chosen:
        return config, []
    words = ", ".join(f"{name} {value}" for name, value in chosen.items())
    return config.model_copy(update=chosen), [
        f"for {cubes} subtomograms and {steps} steps: {words}"
    ]
