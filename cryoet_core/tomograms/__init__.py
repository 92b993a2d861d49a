"""Tomograms: whole volumes that are read region by region, with the picks that are known in them.

``tomogram``: the types. ``sources``: opening any format. ``store``, ``writer``, ``layout``,
``check``: the store. ``resample``, ``statistics``: views and numbers of a volume. ``tiles``: a
function of a whole tomogram, tile by tile.
"""

from cryoet_core.tomograms.reading import TomogramOptions
from cryoet_core.tomograms.sources import open_tomograms
from cryoet_core.tomograms.tomogram import Tomogram, Tomograms
from cryoet_core.tomograms.volume import ArrayVolume, Mask, Region, Volume

__all__ = [
    "ArrayVolume",
    "Mask",
    "Region",
    "Tomogram",
    "TomogramOptions",
    "Tomograms",
    "Volume",
    "open_tomograms",
]
