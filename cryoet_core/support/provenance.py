"""Where a result comes from: versions, commit, device, command line and input files."""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    import torch

_PACKAGES = (
    "cryoet",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "h5py",
    "lightning-fabric",
    "safetensors",
)
_BLOCK, _SAMPLES = 1 << 16, 32


def collect(device: torch.device) -> dict[str, Any]:
    """Collect versions of Python, packages and plugins; commit, host, device and command line."""
    return {
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "device": device_name(device),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "plugins": plugin_versions(),
        "commit": commit(Path(__file__).parents[2]),
    }


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the CPU as far as the system tells it."""
    import torch

    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"cpu {model}"


def plugin_versions() -> dict[str, str]:
    """Map each plugin's name to its distribution and version.

    They are read from the metadata of the installed packages, without an import.

    Returns
    -------
    dict[str, str]
        Method name to ``"distribution version"``.
    """
    points = metadata.entry_points(group="cryoet")
    return {
        p.name: f"{p.dist.name} {p.dist.version}" if p.dist else "?"
        for p in sorted(points, key=lambda p: p.name)
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def commit(root: Path) -> str | None:
    """Return the commit of a source check-out.

    Parameters
    ----------
    root : Path
        The folder of the check-out.

    Returns
    -------
    str | None
        The hash, followed by ``", modified"`` when files differ; None when the package is installed
        or git is missing.
    """
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return (
            f"{head}, modified"
            if _git(root, "status", "--porcelain", "--untracked-files=no")
            else head
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=5, check=True
    ).stdout.strip()


def fingerprint(path: Path) -> dict[str, Any]:
    """Describe a file so that it can be told from others without reading all of it.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    dict[str, Any]
        Path, size in bytes, and SHA-256 of the size and 32 sampled blocks (both ends and 30
        between). Of a folder, the path alone.

    Raises
    ------
    UserError
        When there is no such file.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; expected a data set")
    if path.is_dir():
        return {"path": str(path)}
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(size - _BLOCK, 0)
    with path.open("rb") as file:
        for index in range(_SAMPLES):
            file.seek(last * index // (_SAMPLES - 1))
            digest.update(file.read(_BLOCK))
    return {"path": str(path), "bytes": size, "sha256_sampled": digest.hexdigest()}
