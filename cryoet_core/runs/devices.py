"""What the machine has: devices, processes per node, memory.

What it does not have is refused with a message that says what to change.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    import torch

Launcher = Literal["none", "self", "torchrun", "srun"]


@dataclass(frozen=True)
class Layout:
    """Who starts the processes of a run and how many there are.

    Attributes
    ----------
    launcher : {"none", "self", "torchrun", "srun"}
        ``"none"`` is one process, ``"self"`` starts the others from this one.
    per_node : int
        Processes on each node.
    nodes : int
        Number of nodes.
    """

    launcher: Launcher
    per_node: int = 1
    nodes: int = 1

    @property
    def world_size(self) -> int:
        """Number of processes on all nodes."""
        return self.per_node * self.nodes


def resolve(wish: str) -> torch.device:
    """The device that a user asks for.

    Parameters
    ----------
    wish : str
        "auto", "cpu", "cuda" or "cuda:N"; "auto" is a GPU if there is one.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    UserError
        This machine has no such device.

    Examples
    --------
    >>> resolve("cpu")
    device(type='cpu')
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wish == "auto":
        wish = "cuda" if count else "cpu"
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", wish)
    if match is None:
        raise UserError(f"`device` {wish}: unknown device; expected auto, cpu, cuda or cuda:N")
    if wish == "cpu":
        return torch.device("cpu")
    if not count:
        raise UserError(
            f"`device` {wish}: no CUDA device is usable on this machine; use `device` "
            "cpu or `device` auto"
        )
    index = int(match[1] or 0)
    if index >= count:
        raise UserError(
            f"`device` {wish}: this machine has {_gpus(count)}; expected cuda:0 to cuda:{count - 1}"
        )
    return torch.device("cuda", index)


def layout(devices: int, device: torch.device) -> Layout:
    """How many processes this run has, from torchrun or srun, or else from ``devices``.

    Parameters
    ----------
    devices : int
        Processes that the user asks for.
    device : torch.device
        Where they compute.

    Returns
    -------
    Layout
        The processes.

    Raises
    ------
    UserError
        ``devices`` is out of range or contradicts the launcher.
    """
    import torch

    if devices < 1:
        raise UserError(f"`devices` {devices}: out of range; expected 1 or more")
    found = _external()
    if found.launcher != "none" and devices not in (1, found.per_node):
        raise UserError(
            f"`devices` {devices}: {found.launcher} started {found.per_node} processes on this "
            "node; "
            "leave `devices` out or make the two agree"
        )
    wanted = found.per_node if found.launcher != "none" else devices
    here = torch.cuda.device_count() if device.type == "cuda" else max(2, os.cpu_count() or 1)
    if wanted > here:
        what = _gpus(here) if device.type == "cuda" else f"{here} CPU cores"
        raise UserError(
            f"`devices` {wanted}: out of range; this process sees {what}; expected at most {here}"
        )
    if wanted > 1 and device.type == "cuda" and device.index:
        raise UserError(
            f"`device` {device} with {wanted} processes: give `device` cuda; CUDA_VISIBLE_DEVICES "
            "selects GPUs"
        )
    if found.launcher != "none":
        return found
    return Layout("self", devices) if devices > 1 else Layout("none")


def _external() -> Layout:
    """The layout of processes that torchrun or srun started.

    A batch script without srun is one process.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        per_node = int(env["LOCAL_WORLD_SIZE"])
        found = Layout("torchrun", per_node, int(env["WORLD_SIZE"]) // per_node)
    elif (
        "SLURM_PROCID" in env
        and "SLURM_STEP_NUM_TASKS" in env
        and env.get("SLURM_JOB_NAME") not in _INTERACTIVE
    ):
        nodes = int(env.get("SLURM_STEP_NUM_NODES", "1"))
        found = Layout("srun", int(env["SLURM_STEP_NUM_TASKS"]) // nodes, nodes)
        if int(env["SLURM_STEP_NUM_TASKS"]) != found.world_size:
            raise UserError(
                "srun: the tasks are spread unevenly over the nodes; start it with "
                "`ntasks_per_node`"
            )
    else:
        return Layout("none")
    return found if found.world_size > 1 else Layout("none")


_INTERACTIVE = ("bash", "interactive")


def is_main_process() -> bool:
    """Whether this process is the one that writes and prints.

    It is told from the environment, without torch.
    """
    names = ("RANK", "SLURM_PROCID") if _external().launcher != "none" else ("LOCAL_RANK",)
    return next((os.environ[name] == "0" for name in names if name in os.environ), True)


def usable_memory(device: torch.device, processes: int) -> int:
    """Bytes that a process may take for volumes: half of what is free.

    Parameters
    ----------
    device : torch.device
        A GPU, whose own memory counts, or the CPU.
    processes : int
        Processes of this run that share the memory of the host.

    Returns
    -------
    int
        Bytes.
    """
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] // 2)
    return free_host_memory() // 2 // processes


def free_host_memory() -> int:
    """Bytes of host memory that are free.

    They are at most what the control group (a container, a SLURM job) leaves.
    """
    try:
        meminfo = Path("/proc/meminfo").read_text()
        free = int(meminfo.split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for limit, used in _CGROUP_FILES:
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # absent, or "max"
            continue
    return max(free, 1 << 28)


_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def peak_memory(device: torch.device) -> dict[str, int]:
    """Largest number of bytes that this process held so far: ``host``, and ``device`` on CUDA."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts ru_maxrss in bytes, Linux in KiB
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(device)
    return peak


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next arrays; whether the C library can (glibc).

    It gives arrays above 32 MB back to the system at once, and getting them again page by page
    costs a small network's training on the CPU as much as its convolutions do.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
