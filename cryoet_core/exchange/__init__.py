"""Import into the stores, export, conversion, and the facts of a file."""
