"""The methods of ``cryoet-cssl``: pretraining without labels (simclr, moco, swav), learning from
few (supervised).
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_cssl.methods import Moco, Simclr, Supervised, Swav

    return [Simclr, Moco, Swav, Supervised]
