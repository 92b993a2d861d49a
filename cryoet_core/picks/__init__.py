"""Particle centres: the table ``Picks`` and what its coordinates may have meant (numpy only)."""

from __future__ import annotations

from cryoet_core.picks.table import Picks

__all__ = ["Picks"]
