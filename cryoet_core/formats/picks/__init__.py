"""Read and write picks of other programs; each format has a module of its own.

A format's conventions are converted in its module and nowhere else.
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
