"""The processes of one run.

lightning-fabric starts or finds them; on one process nothing is started or imported.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cryoet_core.runs.devices import Layout, is_main_process, resolve
from cryoet_core.runs.devices import layout as layout_of
from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric
    from torch import Tensor


T = TypeVar("T")


class Processes:
    """This process among the ``world_size`` processes of a run.

    On one process the collectives are the identity. Every process must call each collective, in the
    same order.

    Parameters
    ----------
    layout : Layout
        Who starts the processes and how many there are. Those that we start run the command line of
        this process again, with LOCAL_RANK set; those of torchrun or srun are joined.
    device : torch.device
        Where they compute.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        """Start the other processes, or join those that torchrun or srun started."""
        self.device = device
        self.fabric: Fabric | None = None
        self.rank, self.world_size, self.per_node = 0, layout.world_size, layout.per_node
        if layout.world_size > 1:
            self.fabric = _fabric(layout, device)
            self.fabric.launch()
            self.rank, self.device = self.fabric.global_rank, self.fabric.device

    def shard(self, n: int) -> slice:
        """This process's part of n items.

        Parts are contiguous, in the order of the ranks; their sizes differ by at most one.
        """
        size, extra = divmod(n, self.world_size)
        start = self.rank * size + min(self.rank, extra)
        return slice(start, start + size + (self.rank < extra))

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place; every process gets the same bits."""
        if self.world_size > 1:
            import torch.distributed

            there = tensor.to(self.device).contiguous()
            torch.distributed.all_reduce(there)
            if there.data_ptr() != tensor.data_ptr():
                tensor.copy_(there)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Concatenate the processes' tensors (n_rank, ...) in the order of the ranks.

        n_rank may differ between processes, and may be 0.
        """
        if self.world_size == 1:
            return tensor
        import torch.distributed

        rows = torch.tensor([len(tensor)], device=self.device)
        counts = [torch.zeros_like(rows) for _ in range(self.world_size)]
        torch.distributed.all_gather(counts, rows)
        sizes = [int(count) for count in counts]
        padded = torch.zeros(max(sizes), *tensor.shape[1:], dtype=tensor.dtype, device=self.device)
        padded[: len(tensor)] = tensor.detach()
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]).to(
            tensor.device
        )

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes, in one message.

        A missing gradient counts as zero.
        """
        if self.world_size == 1:
            return
        import torch

        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]
        flat = torch.cat([gradient.float().flatten() for gradient in gradients])
        self.all_reduce(flat).div_(self.world_size)
        for parameter, mean in zip(
            wanted, torch.split(flat, [g.numel() for g in gradients]), strict=True
        ):
            parameter.grad = mean.view_as(parameter).to(parameter.dtype)

    def broadcast(self, value: Any) -> Any:
        """The value (any object) that rank 0 passed."""
        return value if self.fabric is None else self.fabric.broadcast(value)

    def on_main(self, action: Callable[[], Any]) -> Any:
        """Run ``action`` on rank 0 and return its result everywhere.

        When it raises, rank 0 raises that and the others leave quietly, so that one message is
        printed, not N.
        """
        if self.rank == 0:
            try:
                result = action()
            except Exception:
                self.broadcast((False, None))
                raise
            self.broadcast((True, result))
            return result
        good, result = self.broadcast(None)
        if not good:
            raise SystemExit(2)
        return result

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.fabric is not None:
            self.fabric.barrier()

    def leave(self, *, kill: bool = False) -> None:
        """End this process's part.

        Parameters
        ----------
        kill : bool
            End the processes that this one started, which may wait for it in vain.
        """
        if self.fabric is None:
            return
        import torch.distributed

        for process in getattr(self.fabric.strategy.launcher, "procs", []) if kill else []:
            process.kill()
        if torch.distributed.is_initialized() and not kill:
            torch.distributed.destroy_process_group()
        self.fabric = None


def _fabric(layout: Layout, device: torch.device) -> Fabric:
    """A fabric for the layout, with the launcher named instead of guessed.

    Guessing takes a SLURM batch script that calls us without srun for one of several tasks and
    waits for ever.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if layout.launcher == "srun":
        os.environ["SLURM_NTASKS"] = str(layout.world_size)
        os.environ["SLURM_NTASKS_PER_NODE"] = str(layout.per_node)
        os.environ["SLURM_NNODES"] = str(layout.nodes)
    # its banners are not our output
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    environments = {
        "self": LightningEnvironment,
        "torchrun": TorchElasticEnvironment,
        "srun": SLURMEnvironment,
    }
    return Fabric(
        accelerator=device.type,
        devices=layout.per_node,
        num_nodes=layout.nodes,
        strategy="ddp",
        plugins=[environments[layout.launcher]()],
    )


class Collectives:
    """The collectives of ``Processes``, as methods of ``Run``.

    On one process each gives back its argument.
    """

    @property
    def processes(self) -> Processes:
        """The processes of the run."""
        raise NotImplementedError

    def shard(self, n: int) -> slice:
        """This process's part of n items."""
        return self.processes.shard(n)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        return self.processes.all_reduce(tensor)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Concatenate the processes' tensors along the first axis, in the order of the ranks.

        Their lengths may differ.
        """
        return self.processes.all_gather(tensor)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Average the gradients over the processes.

        Call it between ``backward`` and the optimiser's step.
        """
        self.processes.average_gradients(parameters)

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every process."""
        result: T = self.processes.broadcast(value)
        return result

    def barrier(self) -> None:
        """Wait for the other processes."""
        self.processes.barrier()


def launch(options: Mapping[str, Any], on_main: Callable[[], Path]) -> tuple[Path, Processes]:
    """Check the options, make the folder on rank 0 and start the processes.

    What the user did wrong is found before a process is started, where the processes are ours to
    start.

    Parameters
    ----------
    options : mapping
        ``threads``, ``precision``, ``device`` and ``devices``.
    on_main : callable
        Called on rank 0; returns the folder of the run.

    Returns
    -------
    folder : Path
        What ``on_main`` returned, on every process.
    processes : Processes
        The processes.

    Raises
    ------
    UserError
        An option is out of range, or this machine cannot do it.
    """
    if options["threads"] is not None and options["threads"] < 1:
        raise UserError(f"`threads` {options['threads']}: out of range; expected 1 or more")
    if options["precision"] not in ("auto", "32", "bf16"):
        raise UserError(f"`precision` {options['precision']}: unknown; expected auto, 32 or bf16")
    device = resolve(options["device"])
    layout = layout_of(options["devices"], device)
    if layout.launcher in ("torchrun", "srun"):
        processes = Processes(layout, device)
        return processes.on_main(on_main), processes
    if layout.launcher == "self" and not _can_run_again():
        raise UserError(
            f"`devices` {layout.per_node}: the other processes run this command line again, and "
            "here is none; "
            "start it from a shell, from a script or with torchrun"
        )
    folder = on_main() if is_main_process() or layout.launcher == "none" else None
    processes = Processes(layout, device)
    return processes.broadcast(folder), processes


def _can_run_again() -> bool:
    """Whether python can be started with this process's own arguments.

    It cannot from a notebook, a prompt or ``python -c``.
    """
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) is not None:
        return "ipykernel" not in sys.modules
    return Path(sys.argv[0]).is_file() and not hasattr(sys, "ps1")
