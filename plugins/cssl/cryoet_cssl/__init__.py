"""Define the methods of ``cryoet-cssl``: pretraining without labels, and learning from few labels.

``simclr``, ``moco`` and ``swav`` pretrain an encoder, ``supervised`` trains a classifier.
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    """Name the methods of this plugin."""
    from cryoet_cssl.methods import Moco, Simclr, Supervised, Swav

    return [Simclr, Moco, Swav, Supervised]
