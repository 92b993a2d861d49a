"""What the machine has, and what is asked of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from cryoet_core.devices import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(keep_freed_memory())
for _ in range(3):
    torch.ones(32 << 20).sum()
before = faults()
for _ in range(4):
    torch.ones(32 << 20).sum()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    """Four arrays of 128 MB would be 131,072 pages of 4 kB."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    assert int(count) < 2000
