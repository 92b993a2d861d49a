"""Simulated data with known truth: structures, their poses and neighbours, image formation.

``shapes`` gives densities, ``scene`` places them, ``imaging`` is the microscope, ``generation``
makes subtomograms of them and ``specimen`` whole tomograms. `subtomograms` and `tomogram` are what
a Python user calls.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryoet_core.simulate.door import subtomograms, tomogram

__all__ = ["subtomograms", "tomogram"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("cryoet_core.simulate.door"), name)
