"""Tomograms: whole volumes that are read region by region, with the picks that are known in them."""

from cryoet_core.tomograms.tomogram import ArrayVolume, Region, Tomogram, Tomograms, Volume

__all__ = ["ArrayVolume", "Region", "Tomogram", "Tomograms", "Volume"]
