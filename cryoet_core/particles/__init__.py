"""Subtomograms of picks: where picks lie in tomograms, and the boxes cut out around them."""
