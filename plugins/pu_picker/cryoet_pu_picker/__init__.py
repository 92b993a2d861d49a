"""The plugin ``pu_picker``: particle centres from a few labels, by positive-unlabelled learning."""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_pu_picker.pu_picker import PUPickerTrainer

    return [PUPickerTrainer]
