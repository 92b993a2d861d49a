"""Simulated data with known truth: structures, their poses and neighbours, image formation.

``structures`` and ``phantoms`` give densities, ``poses`` and ``crowding`` place them, ``imaging``
is the microscope, and ``subtomograms`` puts them together.

``tomogram`` makes whole ones: ``packing`` and ``distractors`` fill the volume, ``volume_filter`` or
``tilts`` (by ``projection``) is the microscope, and ``tomogram_files`` writes them.
"""

from __future__ import annotations
