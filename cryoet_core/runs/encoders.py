"""Encoders by name, and encoders that another run has trained.

A method that trains an encoder leaves it in its checkpoint ``model``: the tensors under
``encoder.`` and, in the state, ``encoder_record``. Any other method can then use it:
``--encoder cssl.rb3d --weights runs/moco``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoet_core.plugins.discovery import load_encoder
from cryoet_core.support.errors import UserError
from cryoet_core.support.files import shown

if TYPE_CHECKING:
    import torch

PREFIX, RECORD = "encoder.", "encoder"
CHECKPOINT = "model"


def build_encoder(name: str, box: int, **options: Any) -> torch.nn.Module:
    """An encoder of a plugin, with fresh weights.

    Parameters
    ----------
    name : str
        As ``cryoet methods`` lists it, such as ``"cssl.rb3d"``.
    box : int
        Box size of the volumes, in voxels.
    **options
        Options of this encoder.

    Returns
    -------
    torch.nn.Module
        From volumes (n, 1, box, box, box) to features (n, ``dim``).

    Raises
    ------
    UserError
        No such encoder, an option that it does not take, or a box that it cannot work with.
    """
    factory = load_encoder(name)
    try:
        module: torch.nn.Module = factory(box=box, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"encoder {name}: cannot be built for box size {box}: {error}") from error
    if not isinstance(getattr(module, "dim", None), int):
        raise UserError(
            f"encoder {name}: has no dim; expected the length of its features as an int"
        )
    return module


def encoder_record(name: str, box: int, **options: Any) -> dict[str, Any]:
    """What ``pretrained_encoder`` needs to rebuild an encoder, for the state of ``model``.

    Parameters
    ----------
    name : str
        The encoder's name.
    box : int
        Box size in voxels that it was trained on.
    **options
        The options that it was built with.

    Returns
    -------
    dict
        A part of the checkpoint's state.
    """
    return {RECORD: {"name": name, "box": box, "options": options}}


def encoder_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights as the checkpoint ``model`` holds them."""
    return {PREFIX + name: tensor for name, tensor in module.state_dict().items()}


def pretrained_encoder(
    folder: Path | str, *, box: int | None = None, expect: str | None = None
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The encoder that a run has trained, and its record.

    Weights of an encoder that pools what it sees fit any box size; those of others fit only the box
    size that they were trained on.

    Parameters
    ----------
    folder : Path or str
        The folder of the run.
    box : int, optional
        Box size in voxels of the data that it shall work on; by default that of training.
    expect : str, optional
        The name of the encoder that the user gave.

    Returns
    -------
    encoder : torch.nn.Module
        The trained encoder.
    record : dict
        ``name``, ``box`` and ``options``.

    Raises
    ------
    UserError
        The folder is no run, its method leaves no encoder, it is another encoder, or its weights
        are for another box size.
    """
    from cryoet_core.runs import checkpoint, runfolder

    folder = Path(folder)
    runfolder.read(folder.absolute())
    found = checkpoint.load(folder / "checkpoints" / f"{CHECKPOINT}.safetensors")
    if found is None:
        raise UserError(
            f"`weights` {shown(folder)}: has no trained model yet; expected a finished run"
        )
    tensors, state = found
    record = state.get(RECORD)
    if not isinstance(record, Mapping):
        raise UserError(
            f"`weights` {shown(folder)}: this method trains no encoder that others can use"
        )
    if expect is not None and record["name"] != expect:
        raise UserError(
            f"`weights` {shown(folder)}: holds the encoder {record['name']}, not {expect}; give "
            "`encoder` so"
        )
    own = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(PREFIX)
    }
    wanted = record["box"] if box is None else box
    module = build_encoder(record["name"], wanted, **record["options"])
    if wanted != record["box"] and _shapes(module.state_dict()) != _shapes(own):
        raise UserError(
            f"`weights` {shown(folder)}: was trained on box size {record['box']}, the data "
            f"has {box}; "
            f"extract the particles with `box` {record['box']}, or train on box size {box}"
        )
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise UserError(
            f"`weights` {shown(folder)}: does not fit encoder {record['name']}: {error}"
        ) from error
    return module, dict(record) | {"box": wanted}


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
