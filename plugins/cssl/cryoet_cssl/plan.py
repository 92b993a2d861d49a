"""Options that no constant suits: what is left open follows from the number of cubes and of steps.

The published constants belong to 37,600 steps on 3,000 cubes. What carries over to a small set are
ratios.
"""

from __future__ import annotations

from typing import Any

LOOK_BACK = 40
"""Such a share of the run, 1 / 40, the key encoder of MoCo looks back on: 0.999 at the published
number of steps.
"""
QUEUE_SHARE = 4
"""A queue above a quarter of the cubes holds other views of the very cubes that it is compared
with.
"""


def steps_of(cubes: int, batch: int, epochs: int) -> int:
    """Steps of a pretraining; see ``pretrain.shuffled``."""
    return epochs * max(1, min(cubes // batch, cubes // 2))


def planned(config: Any, cubes: int) -> tuple[Any, list[str]]:
    """The configuration without open options, and a note of what was chosen. Only options that are
    none change.
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
    return config.model_copy(update=chosen), [f"for {cubes} cubes and {steps} steps: {words}"]
