"""The plugin ``slice_tracing``: particles found slice by slice, their detections linked
through z.
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_slice_tracing.slice_tracing import SliceTracing

    return [SliceTracing]
