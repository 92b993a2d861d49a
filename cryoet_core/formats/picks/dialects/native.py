"""Our own picks in HDF5, which hold everything; see ``cryoet_core.formats.picks.store_file``."""

from __future__ import annotations

from pathlib import Path

from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.formats.picks.store_file import load_picks, save_picks
from cryoet_core.picks.table import Picks


def read(path: Path, reading: PickReading) -> PickFile:
    return PickFile(load_picks(path), [], "cryoet")


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    save_picks(path, picks)
    return []
