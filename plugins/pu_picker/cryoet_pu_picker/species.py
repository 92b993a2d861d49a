"""Particle species: classes of the labels with a diameter, from ``--diameter 250`` or
``a=250,b=150``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import close_names


@dataclass(frozen=True)
class Species:
    """name: the class of the labels. diameter: Å."""

    name: str
    diameter: float

    @property
    def volume(self) -> float:
        """Of the sphere of this diameter, in Å^3."""
        return math.pi / 6 * self.diameter**3


def species_of(diameter: str, labels: Picks) -> tuple[Species, ...]:
    """What is to be picked. UserError for a missing or malformed diameter, or a class without
    labels.

    One number holds for every class that has labels; with names only those classes are learnt.
    """
    present = [
        name for index, name in enumerate(labels.class_names) if (labels.classes == index).any()
    ]
    if not diameter.strip():
        raise UserError(
            "`diameter`: missing; expected the particle's diameter in Å, such as `diameter` 250"
        )
    values = by_name("diameter", diameter, present)
    return tuple(Species(name, values[name]) for name in values)


def by_name(option: str, text: str, names: Sequence[str]) -> dict[str, float]:
    """``0.1`` for each of the names, or ``a=0.1,b=0.2``. UserError for what is neither, or for
    another name.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len(words) == 1 and "=" not in words[0]:
        return dict.fromkeys(names, _positive(option, words[0]))
    values: dict[str, float] = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if name not in names:
            hint = close_names(name, names) if name else "; expected name=number for each"
            raise UserError(
                f"`{option}` {text}: no labels of a class {name or word!r}; there are "
                f"{', '.join(names)}{hint}"
            )
        values[name] = _positive(option, number)
    return values


def _positive(option: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(
            f"`{option}`: {word!r} is no positive number; expected such as {_EXAMPLES[option]}"
        )
    return value


_EXAMPLES = {
    "diameter": "250, or ribosome=250,proteasome=150",
    "prior": "0.1, or ribosome=0.1,proteasome=0.02",
    "copies": "150, or ribosome=150,proteasome=40",
}
