"""Picks of other programs: each format in a file of its own, its conventions converted there and
nowhere else.
"""

from cryoet_core.formats.picks.detecting import detect_dialect
from cryoet_core.formats.picks.formats import DIALECTS
from cryoet_core.formats.picks.model import Geometry, PickFile, PickReading
from cryoet_core.formats.picks.reading import describe_picks, read_picks
from cryoet_core.formats.picks.writing import picks_files, write_picks

__all__ = [
    "DIALECTS",
    "Geometry",
    "PickFile",
    "PickReading",
    "describe_picks",
    "detect_dialect",
    "picks_files",
    "read_picks",
    "write_picks",
]
