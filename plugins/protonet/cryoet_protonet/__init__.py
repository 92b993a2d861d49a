"""Offer ``protonet`` and ``protonet_ce``; read ``ProtoNet.fit`` in ``protonet.py`` first."""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    """Name the methods of this plugin."""
    from cryoet_protonet.protonet import ProtoNet, ProtoNetCE

    return [ProtoNet, ProtoNetCE]


@hookimpl
def cryoet_encoders():  # type: ignore[no-untyped-def]
    """Name the encoders of this plugin."""
    from cryoet_protonet.network import ProtoNet3D

    return {"protonet3d": ProtoNet3D}
