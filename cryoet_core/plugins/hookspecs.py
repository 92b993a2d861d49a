"""The hooks that a plugin module may implement; each returns values and registers nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cryoet_core import hookspec

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import Trainer


@hookspec
def cryoet_trainers() -> list[type[Trainer]]:  # type: ignore[empty-body]
    """The methods of this plugin; one of them has the name of the entry point."""


@hookspec
def cryoet_encoders() -> dict[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Factories of encoders by name; ``plugin.name`` finds one from outside.

    A factory is called with ``box``, the edge of the volumes in voxels, and with options of its
    own. It returns a ``torch.nn.Module`` with an int ``dim``, from volumes (n, 1, box, box, box) to
    features (n, dim). ValueError: a box that it cannot take.
    """
