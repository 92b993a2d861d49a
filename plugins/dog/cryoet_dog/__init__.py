"""The plugin ``dog``: blobs of a given diameter, by difference of Gaussians; it trains nothing."""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_dog.dog import DogTrainer

    return [DogTrainer]
