"""Six methods that classify subtomograms of one domain with the labels of another (paper 001 and
its baselines).
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_fsft.methods import DeepCoral, Fada, FineTune, Fsft, SourceOnly, Swd

    return [Fsft, Fada, DeepCoral, Swd, FineTune, SourceOnly]
