"""The commands of ``cryoet``, one per file."""
