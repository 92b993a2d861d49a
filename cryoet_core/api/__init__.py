"""The door: everything that ``import cryoet_core as cryoet`` offers. See ``cryoet_core``."""
