"""Offer six methods that classify subtomograms of one domain with the labels of another.

They are FSFT and its baselines.

References
----------
Yu et al. (2021). Few shot domain adaptation for in situ macromolecule structural classification in
cryoelectron tomograms. Bioinformatics 37, 185-191. doi:10.1093/bioinformatics/btaa671.
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    """Name the methods of this plugin."""
    from cryoet_fsft.methods import DeepCoral, Fada, FineTune, Fsft, SourceOnly, Swd

    return [Fsft, Fada, DeepCoral, Swd, FineTune, SourceOnly]
