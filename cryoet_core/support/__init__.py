"""What every room may use: files, errors, names, progress, units, the journal and provenance."""
