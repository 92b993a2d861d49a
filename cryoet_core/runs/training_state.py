"""A network and its optimiser as the tensors of one checkpoint, so that training can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

NETWORK, OPTIMISER = "network.", "optimiser."


def training_tensors(network: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    """The state of a network and of its optimiser, for ``run.save``.

    The learning rate and the other settings of the optimiser are not part of it: they are the
    method's options, and a schedule sets them from the step.

    Parameters
    ----------
    network : torch.nn.Module
        The network in training.
    optimiser : torch.optim.Optimizer
        Its optimiser.

    Returns
    -------
    dict of str to Tensor
        Weights under ``network.``, the optimiser's state under ``optimiser.``.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Linear(2, 1)
    >>> optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    >>> network(torch.ones(1, 2)).sum().backward()
    >>> optimiser.step()
    >>> sorted(training_tensors(network, optimiser))[:2]
    ['network.bias', 'network.weight']
    """
    weights = {NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    return weights | optimiser_tensors(optimiser)


def restore_training(
    network: nn.Module, optimiser: Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put what ``training_tensors`` gave into a new network and a new optimiser.

    Parameters
    ----------
    network : torch.nn.Module
        A network of the same shape, on the device where it shall be trained.
    optimiser : torch.optim.Optimizer
        A new optimiser of its parameters, with the settings that it shall have.
    tensors : mapping of str to Tensor
        What ``training_tensors`` gave, as ``run.load`` returns it.
    """
    network.load_state_dict(network_tensors(tensors))
    restore_optimiser(optimiser, tensors)


def network_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights alone, for ``network.load_state_dict`` when a method only predicts."""
    return {
        name.removeprefix(NETWORK): value
        for name, value in tensors.items()
        if name.startswith(NETWORK)
    }


def optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser alone, under ``optimiser.``, for methods of several networks."""
    import torch

    return {
        f"{OPTIMISER}{index}.{key}": value
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put what ``optimiser_tensors`` gave into a new optimiser of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(OPTIMISER):
            index, key = name.removeprefix(OPTIMISER).split(".", 1)
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
