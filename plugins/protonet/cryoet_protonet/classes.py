"""Choose which classes and which volumes are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import close_names
from cryoet_protonet.episodes import check_episode, queries_of

TRAIN, HELD, TEST = 0, 1, 2
LEAST_HELD = 2


@dataclass(frozen=True)
class Parts:
    """Rows of a data set by what they are used for.

    Attributes
    ----------
    train : Mapping[str, Tensor]
        Rows of each training class that are trained on.
    held : Mapping[str, Tensor]
        Rows of each training class that are held out.
    unseen : Mapping[str, Tensor]
        Rows of each unseen class.
    """

    train: Mapping[str, Tensor]
    held: Mapping[str, Tensor]
    unseen: Mapping[str, Tensor]

    @property
    def known(self) -> tuple[Tensor, Tensor]:
        """Rows trained on and rows held out, of all training classes."""
        return torch.cat(list(self.train.values())), torch.cat(list(self.held.values()))

    def codes(self, n: int) -> np.ndarray:
        """Return codes (n,) int8: 0 trained on, 1 held out, 2 of an unseen class or of none."""
        codes = np.full(n, TEST, dtype=np.int8)
        for code, rows in zip((TRAIN, HELD), self.known, strict=True):
            codes[rows.numpy()] = code
        return codes


def split_classes(
    names: Sequence[str], chosen: Sequence[str], unseen: int | None, run: Run
) -> tuple[list[str], list[str]]:
    """Split class names into training classes and unseen classes, in their order.

    Parameters
    ----------
    names : Sequence[str]
        Names of the classes that have a volume.
    chosen : Sequence[str]
        Training classes; empty to draw them by the seed.
    unseen : int | None
        Number of classes to leave out where none is chosen; None for two fifths.
    run : Run
        The run: device, random numbers, log and checkpoints.

    Returns
    -------
    tuple[list[str], list[str]]
        Training classes and unseen classes.

    Raises
    ------
    UserError
        For an unknown or repeated name.
    """
    unknown = [name for name in chosen if name not in names]
    if unknown:
        near = close_names(unknown[0], names) or f"; it has {', '.join(names)}"
        raise UserError(f"`train_classes` {unknown[0]}: the data set has no such class{near}")
    if len(set(chosen)) < len(chosen):
        raise UserError(f"`train_classes` {','.join(chosen)}: names a class twice")
    if not chosen:
        count = round(0.4 * len(names)) if unseen is None else unseen
        order = torch.randperm(len(names), generator=run.generator("classes"))
        chosen = [names[i] for i in order[: max(len(names) - count, 0)]]
    return [n for n in names if n in chosen], [n for n in names if n not in chosen]


def split_rows(data: Any, config: Any, run: Run) -> Parts:
    """Split a labelled data set into parts.

    Parameters
    ----------
    data : Any
        Subtomograms, all of one box size.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.

    Raises
    ------
    UserError
        Where the training classes are too few or too small.
    """
    present = [name for i, name in enumerate(data.class_names) if (data.labels == i).any()]
    train, unseen = split_classes(present, config.train_classes, config.unseen, run)
    rows = {name: _rows_of(data, name) for name in present}
    seen, held = {}, {}
    for name in train:
        order = rows[name][
            torch.randperm(len(rows[name]), generator=run.generator("held out", name))
        ]
        count = max(LEAST_HELD, round(config.held_out * len(order)))
        seen[name], held[name] = order[count:].sort().values, order[:count].sort().values
    check_episode(seen, config.way, config.shot, queries_of(seen, config.shot, config.query))
    return Parts(seen, held, {name: rows[name] for name in unseen})


def _rows_of(data: Any, name: str) -> Tensor:
    return torch.from_numpy(np.flatnonzero(data.labels == list(data.class_names).index(name)))
