"""The plugin ``disca``. Read ``disca.py`` first: ``Disca.fit`` is the method, top-down."""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_disca.disca import Disca

    return [Disca]


@hookimpl
def cryoet_encoders():  # type: ignore[no-untyped-def]
    from cryoet_disca.yopo import yopo

    return {"yopo": yopo}
