"""Checkpoints: one safetensors file each, with its JSON state in the header.

Nothing is pickled, so nothing can run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoet_core.support import files
from cryoet_core.support.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and state in one atomic step: a crash leaves the last good checkpoint.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it is missing.
    tensors : mapping of str to Tensor
        Copied, so they may be views or share their memory.
    state : mapping
        Comes back as JSON has it: tuples as lists, keys as strings. NaN and infinity survive.
    """
    from safetensors.torch import save as serialise

    # A copy of each: safetensors refuses views and tensors that share their memory.
    own = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    path.parent.mkdir(exist_ok=True)
    files.write_bytes(
        path, serialise(own, metadata={"state": json.dumps(dict(state), default=_listed)})
    )


def _listed(value: Any) -> Any:
    """numpy and torch values as numbers and lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"a checkpoint's state holds a {type(value).__name__}; expected what JSON has, or a tensor"
    )


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors (on the CPU) and state of a checkpoint; None when there is none.

    Raises
    ------
    RunError
        The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            state = json.loads(file.metadata()["state"])
            # Cloned: the library maps the file, and the next checkpoint replaces it.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, state  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: this checkpoint is damaged ({error}); expected a safetensors file that this "
            "program wrote; "
            "start the run again"
        ) from error
