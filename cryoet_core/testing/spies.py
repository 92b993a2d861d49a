"""Watch on a CPU what would only show on other machines: where torch computes, and random numbers.

The device spy needs no GPU. ``run.device`` gives one certain ``torch.device`` object; tensors that
are made with it, moved with it, or computed from such tensors count as on the device, and those
that ``cpu()`` or ``to("cpu")`` returns do not. On a CPU the computation stays the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_PRODUCTS = (
    *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "mv"),
    *("linear", "einsum", "tensordot", "cdist"),
)
_CONVOLUTIONS = tuple(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))
HEAVY = frozenset((*_PRODUCTS, *_CONVOLUTIONS))
"""Functions of torch in which methods spend their time."""

RANDOM = frozenset(
    (
        *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like"),
        *("normal", "normal_", "uniform_", "bernoulli", "bernoulli_", "multinomial", "random_"),
        *("exponential_", "dropout", "dropout3d"),
    )
)
"""Functions of torch that draw random numbers."""

_RUNS = str(Path(__file__).parents[1] / "runs")


@dataclass
class Seen:
    """What the spies have seen of a block.

    Attributes
    ----------
    on_device : int
        Numbers that heavy functions took from tensors on the device.
    elsewhere : int
        Numbers that they took from other tensors.
    draws : list of str
        What the method drew random numbers with.
    asked : bool
        Whether the method asked the run for its seed or for random numbers.
    """

    on_device: int = 0
    elsewhere: int = 0
    draws: list[str] = field(default_factory=list)
    asked: bool = False


@contextmanager
def watched_devices(seen: Seen) -> Iterator[None]:
    """Count what heavy functions compute on ``run.device`` and elsewhere.

    Parameters
    ----------
    seen : Seen
        Gets the counts.
    """
    from cryoet_core.runs.run import Run
    from cryoet_core.runs.volumes import DeviceVolumes

    original, finish = Run.__dict__["device"], DeviceVolumes._finish
    spy = _DeviceSpy(seen)

    def device(run: Run) -> torch.device:
        real: torch.device = run.processes.device
        if real.type != "cpu":
            return real
        return spy.device

    def finished(volumes: DeviceVolumes, *arguments: Any) -> Tensor:
        batch = finish(volumes, *arguments)
        spy.mark(batch)
        return batch

    Run.device = property(device)  # type: ignore[assignment]
    DeviceVolumes._finish = finished  # type: ignore[assignment,method-assign]
    try:
        with spy:
            yield
    finally:
        Run.device = original  # type: ignore[method-assign]
        DeviceVolumes._finish = finish  # type: ignore[method-assign]


class _DeviceSpy(TorchFunctionMode):
    """Follow tensors of the device through the functions of torch."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen, self.device = seen, torch.device("cpu")
        self._marked: set[int] = set()

    def mark(self, tensor: Tensor) -> None:
        """Count this tensor, and those that share its memory, as on the device."""
        if memory := _memory(tensor):
            self._marked.add(memory)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = getattr(function, "__name__", "")
        given = _tensors((args, kwargs))
        here = [self._is_here(tensor) for tensor in given]
        if name in HEAVY:
            count = sum(tensor.numel() for tensor in given)
            if any(here):
                self.seen.on_device += count
            else:
                self.seen.elsewhere += count
        if name == "__get__" and isinstance(result, torch.device):
            return self.device if any(here) else result
        if name in ("cpu", "to") and isinstance(result, Tensor) and given:
            return self._moved(name, given[0], result, args, kwargs)
        asked = any(value is self.device for value in (*args, *kwargs.values()))
        if asked or any(here):
            for tensor in _tensors(result):
                self.mark(tensor)
        else:  # memory of the device that has been freed and is used again
            self._marked.difference_update(map(_memory, _tensors(result)))
        return result

    def _moved(self, name: str, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> Tensor:
        wanted = [*args[1:], *kwargs.values()]
        if any(value is self.device for value in wanted):
            self.mark(result)
            return result
        leaves = name == "cpu" or any(isinstance(v, (torch.device, str)) for v in wanted)
        if self._is_here(source) and leaves:
            # a copy, as from a GPU: it shares no memory with what is on the device
            copied = result.clone()
            self._marked.discard(_memory(copied))
            return copied
        if self._is_here(source) or any(self._is_here(tensor) for tensor in _tensors(wanted)):
            self.mark(result)
        return result

    def _is_here(self, tensor: Tensor) -> bool:
        return _memory(tensor) in self._marked


def _memory(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 where it has none, such as a sparse one."""
    with torch._C.DisableTorchFunction():
        try:
            return tensor.untyped_storage().data_ptr()
        except (RuntimeError, NotImplementedError):
            return 0


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return []
    return [tensor for value in values for tensor in _tensors(value)]


@contextmanager
def watched_draws(seen: Seen) -> Iterator[None]:
    """Note what draws random numbers, and whether the run was asked for its seed.

    Parameters
    ----------
    seen : Seen
        Gets the names of the functions that drew.
    """
    from cryoet_core.runs.run import Run

    kept = {name: Run.__dict__[name] for name in ("generator", "reseed")}
    default_rng = np.random.default_rng

    def noted(function: Any) -> Any:
        def call(run: Any, *key: Any) -> Any:
            seen.asked |= not _from_run()
            return function(run, *key)

        return call

    def seed_of(run: Any) -> int:
        seen.asked |= not _from_run()
        value: int = vars(run)["seed"]
        return value

    def drawing(*arguments: Any, **values: Any) -> Any:
        seen.draws.append("numpy.random.default_rng")
        return default_rng(*arguments, **values)

    for name, function in kept.items():
        setattr(Run, name, noted(function))
    # an attribute of the instance otherwise, so nothing has to be put back
    Run.seed = property(  # type: ignore[assignment]
        seed_of, lambda run, value: vars(run).update(seed=value)
    )
    np.random.default_rng = drawing
    try:
        with _DrawSpy(seen):
            yield
    finally:
        for name, function in kept.items():
            setattr(Run, name, function)
        del Run.seed  # type: ignore[misc]
        np.random.default_rng = default_rng


class _DrawSpy(TorchFunctionMode):
    """Note the functions of torch that draw random numbers."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in RANDOM:
            self.seen.draws.append(f"torch.{name}")
        return function(*args, **(kwargs or {}))


def _from_run() -> bool:
    """Whether ``Run`` itself called a watched function; what the core does for a method counts."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame.f_code.co_filename.startswith(_RUNS)


@contextmanager
def watched_batches(changed: list[str]) -> Iterator[None]:
    """Compare each batch of ``run.volumes`` after the block with what it was when handed out.

    Parameters
    ----------
    changed : list of str
        Gets a line for each batch that is another one.
    """
    from cryoet_core.runs.volumes import DeviceVolumes

    finish = DeviceVolumes._finish
    given: list[tuple[Tensor, Tensor]] = []

    def finished(volumes: DeviceVolumes, *arguments: Any) -> Tensor:
        batch = finish(volumes, *arguments)
        given.append((batch, batch.clone()))
        return batch

    DeviceVolumes._finish = finished  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        DeviceVolumes._finish = finish  # type: ignore[method-assign]
    changed += [
        f"batch {index} of {tuple(batch.shape)}"
        for index, (batch, before) in enumerate(given)
        if not torch.equal(batch, before)
    ]
