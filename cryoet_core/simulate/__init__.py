"""Simulated data with known truth: structures, their poses and neighbours, image formation.

``structures`` and ``phantoms`` give densities, ``poses`` and ``crowding`` place them, ``imaging`` is the
microscope, and ``subtomograms`` puts them together.
"""

from __future__ import annotations
