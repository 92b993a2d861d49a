"""The hooks that a plugin module may implement. Each returns values; there is nothing to register
with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cryoet_core import hookspec

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import Trainer


@hookspec
def cryoet_trainers() -> list[type[Trainer]]:  # type: ignore[empty-body]
    """The methods of this plugin. One of them has the name of the entry point."""


@hookspec
def cryoet_encoders() -> dict[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Factories of encoders (``torch.nn.Module``) by name; ``plugin.name`` finds one from
    outside.
    """
