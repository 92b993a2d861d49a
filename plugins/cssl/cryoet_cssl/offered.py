"""The plugin ``cssl``: encoders for every method, ``cssl.rb3d``, ``cssl.cb3d`` and ``cssl.dsrf3d``;
nothing to run.
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_encoders():  # type: ignore[no-untyped-def]
    from cryoet_cssl.networks import cb3d, dsrf3d, rb3d

    return {"rb3d": rb3d, "cb3d": cb3d, "dsrf3d": dsrf3d}
