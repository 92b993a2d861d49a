"""``cryoet simulate``."""
