"""The store: subtomograms in one HDF5 file, read as fast as a memory map, never left half-written.

``layout``: what is on disk. ``subtomograms``: reading. ``writer``: writing. ``check``: faults.
``split``: parts.
"""

from __future__ import annotations

from cryoet_core.store.check import check_store
from cryoet_core.store.describe import describe_store
from cryoet_core.store.layout import SPLITS
from cryoet_core.store.rows import NotRepresentable
from cryoet_core.store.split import save_split, split
from cryoet_core.store.subtomograms import Subtomograms, open_subtomograms
from cryoet_core.store.writer import SubtomogramWriter, write_store

__all__ = [
    "SPLITS",
    "NotRepresentable",
    "SubtomogramWriter",
    "Subtomograms",
    "check_store",
    "describe_store",
    "open_subtomograms",
    "save_split",
    "split",
    "write_store",
]
