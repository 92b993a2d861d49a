"""Find out which macromolecules are in cryo-electron tomograms, and where.

    import cryoet_core as cryoet

    particles = cryoet.open("particles.h5")
    result = cryoet.run("disca", data=particles, k_max=10, seed=0)
    result.labels

Importing this package is cheap: names are imported when they are first used, so it brings neither
torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from cryoet_core.api.opening import open_data as open
    from cryoet_core.api.picking import Picks, extract, read_picks
    from cryoet_core.api.result import Result
    from cryoet_core.api.running import methods, open_run, options, run
    from cryoet_core.store import Subtomograms
    from cryoet_core.support.errors import RunError, UserError
    from cryoet_core.tomograms import Tomogram, Tomograms

__version__ = "0.1.0"

PROJECT = "cryoet"
"""The name of the entry-point group and of the pluggy project."""

hookspec = HookspecMarker(PROJECT)
hookimpl = HookimplMarker(PROJECT)

_DOOR = {
    "Picks": "api.picking",
    "Result": "api.result",
    "RunError": "support.errors",
    "Subtomograms": "store",
    "Tomogram": "tomograms",
    "Tomograms": "tomograms",
    "UserError": "support.errors",
    "extract": "api.picking",
    "methods": "api.running",
    "open": "api.opening",
    "open_run": "api.running",
    "options": "api.running",
    "read_picks": "api.picking",
    "run": "api.running",
}
"""Where each public name lives."""
_NAMED = {"open": "open_data"}
"""Names that differ there, since they would hide what Python builds in."""

__all__ = [
    "PROJECT",
    "Picks",
    "Result",
    "RunError",
    "Subtomograms",
    "Tomogram",
    "Tomograms",
    "UserError",
    "__version__",
    "extract",
    "hookimpl",
    "hookspec",
    "methods",
    "open",
    "open_run",
    "options",
    "read_picks",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name == "simulate":
        return import_module("cryoet_core.simulate")
    if name not in _DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_DOOR[name]}"), _NAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted(__all__)
