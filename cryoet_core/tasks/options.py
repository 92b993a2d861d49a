"""What a user may say to a picker: how tomograms are read and how picks are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryoet_core.runs.inputs import given_of, reading_of
from cryoet_core.tomograms import TomogramOptions

if TYPE_CHECKING:
    from cryoet_core.evaluation.pick_matching import Rule

JUDGING = ("radius", "rule", "particle")


@dataclass(frozen=True)
class PickingOptions:
    """How tomograms are read and how picks are compared with the known particles.

    Attributes
    ----------
    reading : TomogramOptions
        What the user says of tomograms that their files do not.
    radius : float, optional
        How far a pick may lie from the true position and still count, in Å.
    rule : {"optimal", "greedy", "r1.5", "shrec"}, optional
        How picks and particles are matched.
    particle : str, optional
        The class of the known particles to compare with.

    Examples
    --------
    >>> PickingOptions.of({"radius": 90.0, "contrast": "dark", "rule": None}).given()
    {'contrast': 'dark', 'radius': 90.0}
    """

    reading: TomogramOptions = field(default_factory=TomogramOptions)
    radius: float | None = None
    rule: Rule | None = None
    particle: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any] | None) -> PickingOptions:
        """The options by name, as a caller gives them; None stands for what is not given."""
        said = said or {}
        judging = {name: said[name] for name in JUDGING if name in said}
        rest = {name: value for name, value in said.items() if name not in JUDGING}
        return cls(reading_of(rest), **judging)

    def judging(self) -> dict[str, Any]:
        """``radius``, ``rule`` and ``particle``, as far as they are given."""
        values = {name: getattr(self, name) for name in JUDGING}
        return {name: value for name, value in values.items() if value is not None}

    def given(self) -> dict[str, Any]:
        """Everything that is given, by name."""
        return given_of(self.reading) | self.judging()
