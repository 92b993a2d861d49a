"""Other programs' files, at the border only: one module for each format; inside there is the
project's frame alone.
"""
