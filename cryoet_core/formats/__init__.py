"""Read and write the files of other programs, one module for each format.

Their conventions end here: inside there is the project's frame alone.
"""
