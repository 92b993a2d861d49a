"""The plugin ``invariants``: rotation-invariant descriptors, PCA, Gaussian mixture; it trains
nothing.
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_invariants.invariants import InvariantsTrainer

    return [InvariantsTrainer]
