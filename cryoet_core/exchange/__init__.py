"""Into the stores and out of them: import, export, conversion and what a file holds."""
