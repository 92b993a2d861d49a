"""The plugin ``invariants``: rotation-invariant descriptors, PCA, Gaussian mixture. It trains nothing and takes seconds."""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_invariants.invariants import InvariantsTrainer

    return [InvariantsTrainer]
