"""The plugins ``protonet`` and ``protonet_ce``. Read ``protonet.py`` first: ``ProtoNet.fit``,
top-down.
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_protonet.protonet import ProtoNet, ProtoNetCE

    return [ProtoNet, ProtoNetCE]


@hookimpl
def cryoet_encoders():  # type: ignore[no-untyped-def]
    from cryoet_protonet.network import ProtoNet3D

    return {"protonet3d": ProtoNet3D}
