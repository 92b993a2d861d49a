"""The core of ``cryoet``: interfaces, the data set store, runs, the simulator and the command line.

Importing this package is cheap: it imports pluggy and nothing of torch, numpy or h5py.
"""

from __future__ import annotations

from pluggy import HookimplMarker, HookspecMarker

__version__ = "0.1.0"

PROJECT = "cryoet"
"""The name of the entry-point group and of the pluggy project."""

hookspec = HookspecMarker(PROJECT)
hookimpl = HookimplMarker(PROJECT)

__all__ = ["PROJECT", "__version__", "hookimpl", "hookspec"]
