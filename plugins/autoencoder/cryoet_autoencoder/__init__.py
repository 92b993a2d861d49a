"""Offer ``autoencoder`` and ``edss3d``; read ``fit`` in the modules of these names first."""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    """Name the methods of this plugin."""
    from cryoet_autoencoder.autoencoder import AutoencoderTrainer
    from cryoet_autoencoder.edss3d import Edss3dTrainer

    return [AutoencoderTrainer, Edss3dTrainer]


@hookimpl
def cryoet_encoders():  # type: ignore[no-untyped-def]
    """Name the encoders of this plugin."""
    from cryoet_autoencoder.network import Encoder3D

    return {"encoder3d": Encoder3D}
