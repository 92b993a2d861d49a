"""Offer the encoders ``cssl.rb3d``, ``cssl.cb3d`` and ``cssl.dsrf3d`` to every method."""

from cryoet_core import hookimpl


@hookimpl
def cryoet_encoders():  # type: ignore[no-untyped-def]
    """Name the encoders of this plugin."""
    from cryoet_cssl.networks import cb3d, dsrf3d, rb3d

    return {"rb3d": rb3d, "cb3d": cb3d, "dsrf3d": dsrf3d}
