"""``cryoet data``."""
