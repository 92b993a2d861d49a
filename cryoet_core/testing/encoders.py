"""What every encoder that a plugin offers must keep."""

from __future__ import annotations

from typing import Any

from cryoet_core.support.errors import UserError
from cryoet_core.testing.failure import Failure, require

BOX, OTHERS = 24, (32, 16)
"""Boxes in voxels: the first that an encoder takes is the one with which it is checked."""


def names_of(plugin: str) -> list[str]:
    """Full names, ``plugin.name``, of the encoders that a plugin offers."""
    from cryoet_core.plugins.discovery import encoder_names

    return [f"{plugin}.{name}" for name in encoder_names(plugin)]


def check_encoder(name: str) -> None:
    """Build an encoder, run it on a few volumes and fail with the reason when a rule is broken.

    Parameters
    ----------
    name : str
        Its full name, ``plugin.name``.

    Raises
    ------
    Failure
        It breaks a rule; the message says which.
    """
    import torch

    module, box = _built(name)
    require(
        isinstance(module, torch.nn.Module),
        f"encoder {name} is a {type(module).__name__}; expected a torch.nn.Module",
    )
    module.eval()
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(4, 1, box, box, box, generator=generator)
    before = volumes.clone()
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with torch.no_grad():
        features = module(volumes)
    require(torch.equal(volumes, before), f"encoder {name} changes the volumes that it is given")
    require(
        torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state),
        f"encoder {name}, in evaluation mode, changes the number of threads or a global generator",
    )
    shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
    require(
        shape == (4, module.dim),
        f"encoder {name} maps 4 volumes to {shape}; expected (4, {module.dim}), for its dim",
    )
    require(
        features.dtype == torch.float32 and bool(torch.isfinite(features).all()),
        f"encoder {name} gives features that are {features.dtype} or not finite; expected float32",
    )
    with torch.no_grad():
        alone = torch.cat([module(volumes[i : i + 1]) for i in range(4)])
    scale = max(1.0, float(features.detach().abs().max()))
    require(
        float((alone - features).abs().max()) <= 1e-3 * scale,
        f"encoder {name}, in evaluation mode: features of a volume depend on its batch",
    )
    _check_weights(name, box, module, volumes, features)


def _built(name: str) -> tuple[Any, int]:
    """The module and the first box that it takes."""
    from cryoet_core.runs.encoders import build_encoder

    reasons = []
    for box in (BOX, *OTHERS):
        try:
            return build_encoder(name, box), box
        except UserError as error:
            reasons.append(str(error))
    raise Failure(reasons[0])


def _check_weights(name: str, box: int, module: Any, volumes: Any, features: Any) -> None:
    """Weights are drawn by torch's global generator, receive gradients and fit another module."""
    import torch

    from cryoet_core.runs.encoders import build_encoder

    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = build_encoder(name, box)
        torch.manual_seed(1)
        two = build_encoder(name, box)
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    require(
        all(torch.equal(a, b) for a, b in pairs),
        f"encoder {name}: weights differ though torch.manual_seed was the same",
    )
    two.load_state_dict(module.state_dict())
    with torch.no_grad():
        again = two.eval()(volumes)
    require(
        bool(torch.allclose(again, features, rtol=1e-4, atol=1e-5)),
        f"encoder {name}: another module with its state_dict gives other features",
    )
    parameters = [p for p in one.parameters() if p.requires_grad]
    if parameters:
        one.train()(volumes).sum().backward()
        require(
            any(p.grad is not None and bool(p.grad.any()) for p in parameters),
            f"encoder {name}: no gradient reaches its parameters",
        )
