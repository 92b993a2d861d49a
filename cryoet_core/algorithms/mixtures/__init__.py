"""Gaussian mixtures, fitted in batches, and the choice of the number of components."""
