"""A function of a whole tomogram, tile by tile within a memory budget, seamless and resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from cryoet_core.support.errors import RunError
from cryoet_core.tomograms.tilefile import Box, TileFile

if TYPE_CHECKING:
    from cryoet_core.runs.run import Run
    from cryoet_core.tomograms.tomogram import Tomogram
    from cryoet_core.tomograms.volume import Region

Edge = Literal["reflect", "zero"]
Triple = tuple[int, int, int]

WORKING_BYTES = 1024
"""What a function is taken to need per input voxel, unless it says: some tens of feature maps in
float32.
"""
HOST_BYTES = 3 << 30
"""Of host memory a tile takes no more than this however much is free: larger ones save little and
lose more work in a crash."""
PER_TILE = 50_000
"""What beginning a tile costs, in voxels computed."""
LARGEST = 1 << 24
"""Input voxels of a tile at most: the arrays of a network of 64 channels still have 32-bit indices.
"""


def score_map(
    tomogram: Tomogram,
    function: Callable[[torch.Tensor], torch.Tensor],
    *,
    margin: Triple,
    run: Run,
    channels: int = 1,
    stride: Triple = (1, 1, 1),
    name: str = "scores",
    edge: Edge = "reflect",
    working_bytes: int = WORKING_BYTES,
) -> np.ndarray:
    """Compute a function of a whole tomogram, tile by tile.

    Called again after a crash with the same tomogram and arguments, it computes only the tiles that
    are missing.

    Parameters
    ----------
    tomogram : Tomogram
        (d, h, w) voxels; read region by region and standardised.
    function : callable
        Takes a region (1, 1, d, h, w) float32 on ``run.device``, edges multiples of ``stride``, and
        returns its values (1, channels, d/sz, h/sy, w/sx). Output voxel k belongs to input voxel
        k * stride. It is called without gradients.
    margin : (int, int, int)
        Input voxels (z, y, x) around an output voxel that its value depends on. The tomogram is
        continued by as much beyond its ends.
    run : Run
        Gives the device, the memory budget, the progress bar and the folder ``run.scratch``.
    channels : int
        Values of each output voxel.
    stride : (int, int, int)
        Input voxels (z, y, x) from one output voxel to the next.
    name : str
        The name of the values, for the file and the progress bar.
    edge : {"reflect", "zero"}
        How the tomogram is continued: reflected, or with zeros, which is the mean.
    working_bytes : int
        Bytes that the function needs per input voxel. Tiles are made to fit ``run.max_memory``, and
        halved when a GPU runs out all the same.

    Returns
    -------
    numpy.ndarray
        (channels, ceil(d/sz), ceil(h/sy), ceil(w/sx)) float32, over a file in ``run.scratch``;
        changes to it stay in memory.

    Raises
    ------
    RunError
        A value is not finite.
    ValueError
        The function answers in another shape.
    """
    plan = _Plan(tomogram.shape, margin, stride, edge)
    mean, std = tomogram.statistics()
    facts = {
        "tomogram": tomogram.name,
        "file": tomogram.where,
        "shape": tomogram.shape,
        "voxel_size": tomogram.voxel_size,
        "statistics": [mean, std],
        "channels": channels,
        "margin": margin,
        "stride": stride,
        "edge": edge,
    }
    file = TileFile(run.scratch, name, (channels, *plan.out), facts)

    def compute(box: Box, values: np.ndarray) -> np.ndarray:
        region = torch.from_numpy(values).to(run.device)
        with torch.no_grad():
            answer = function(region[None, None])
        expected = (1, channels, *(n // s for n, s in zip(region.shape, stride, strict=True)))
        if tuple(answer.shape) != expected:
            raise ValueError(
                f"the function answered {tuple(answer.shape)} for a tile; expected {expected}"
            )
        z, y, x = plan.core(box)
        found = answer[0, :, z, y, x].float().cpu().numpy()
        if not np.isfinite(found).all():
            raise RunError(
                f"{tomogram.name}: {name} is not finite at output voxels {box}; see the method's "
                "training"
            )
        return found

    limit = run.max_memory if run.device.type == "cuda" else min(run.max_memory, HOST_BYTES)
    budget = max(1, min(LARGEST, limit // max(working_bytes, 1)))
    while True:
        boxes = file.missing(plan.boxes(budget))
        read = partial(plan.read, tomogram, mean=mean, std=std)
        try:
            for box, values in run.progress(_Ahead(read, boxes), f"{tomogram.name}: {name}"):
                file.write(box, compute(box, values))
            return file.array()
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            budget //= 2
            if budget < plan.smallest:
                raise


@dataclass(frozen=True)
class _Ahead:
    """Boxes with what ``read`` gives for each, read by a thread that is one box ahead."""

    read: Callable[[Box], np.ndarray]
    boxes: Sequence[Box]

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[tuple[Box, np.ndarray]]:
        with ThreadPoolExecutor(1, "cryoet-reader") as thread:
            following = thread.submit(self.read, self.boxes[0]) if self.boxes else None
            for index, box in enumerate(self.boxes):
                assert following is not None
                values = following.result()
                if index + 1 < len(self.boxes):
                    following = thread.submit(self.read, self.boxes[index + 1])
                yield box, values


@dataclass(frozen=True)
class _Plan:
    """How a volume is cut: output boxes, the input around each, and where each lies in its answer.

    Every tile begins at a multiple of the stride, so that each output voxel comes from the same
    input wherever the cuts are.
    """

    shape: Triple
    margin: Triple
    stride: Triple
    edge: Edge

    @property
    def out(self) -> Triple:
        d, h, w = (-(-n // s) for n, s in zip(self.shape, self.stride, strict=True))
        return d, h, w

    @property
    def context(self) -> Triple:
        """The margin in output voxels, rounded up."""
        z, y, x = (-(-m // s) for m, s in zip(self.margin, self.stride, strict=True))
        return z, y, x

    @property
    def smallest(self) -> int:
        """Input voxels of a tile whose core is a single output voxel."""
        return int(
            np.prod([(2 * c + 1) * s for c, s in zip(self.context, self.stride, strict=True)])
        )

    def boxes(self, budget: int) -> list[Box]:
        """Return boxes that cover the output, whose inputs fit ``budget`` voxels if possible.

        Of all ways to cut each axis evenly the one that costs least: voxels computed, margins and
        all, and tiles begun.
        """
        cores = [np.unique(-(-n // np.arange(1, n + 1))) for n in self.out]
        tiles = [
            (core + 2 * c) * s for core, c, s in zip(cores, self.context, self.stride, strict=True)
        ]
        totals = [
            -(-n // core) * tile for n, core, tile in zip(self.out, cores, tiles, strict=True)
        ]
        voxels, cost = _products(tiles), _products(totals)
        cost += PER_TILE * cost / voxels
        fits = voxels <= max(budget, voxels.min())
        chosen = np.unravel_index(np.argmin(np.where(fits, cost, np.inf)), cost.shape)
        counts = [-(-n // int(core[i])) for n, core, i in zip(self.out, cores, chosen, strict=True)]
        z, y, x = (_even(n, count) for n, count in zip(self.out, counts, strict=True))
        return list(product(z, y, x))

    def core(self, box: Box) -> Region:
        """Where a box lies in the function's answer for its tile."""
        z, y, x = (
            slice(c, c + stop - start) for c, (start, stop) in zip(self.context, box, strict=True)
        )
        return z, y, x

    def read(self, tomogram: Tomogram, box: Box, mean: float, std: float) -> np.ndarray:
        """Read the standardised input of a box, margin and all, (d, h, w) float32."""
        lines = [
            np.arange((start - c) * s, (stop + c) * s)
            for (start, stop), c, s in zip(box, self.context, self.stride, strict=True)
        ]
        sources = [_reflected(line, n) for line, n in zip(lines, self.shape, strict=True)]
        z, y, x = (slice(int(line.min()), int(line.max()) + 1) for line in sources)
        values = tomogram.read((z, y, x))
        values -= np.float32(mean)
        values *= np.float32(1 / std)
        for axis, (source, part) in enumerate(zip(sources, (z, y, x), strict=True)):
            if (
                len(source) != values.shape[axis]
                or source[0] != part.start
                or source[-1] != part.stop - 1
            ):
                values = np.take(values, source - part.start, axis=axis)
        if self.edge == "zero":
            for axis, (line, n) in enumerate(zip(lines, self.shape, strict=True)):
                values[(slice(None),) * axis + ((line < 0) | (line >= n),)] = 0.0
        return np.ascontiguousarray(values)


def _reflected(index: np.ndarray, size: int) -> np.ndarray:
    """Return indices beyond the ends as seen in mirrors at the first and the last voxel."""
    period = max(2 * (size - 1), 1)
    folded = np.mod(index, period)
    inside: np.ndarray = np.minimum(folded, period - folded) if size > 1 else np.zeros_like(index)
    return inside


def _products(lengths: Sequence[np.ndarray]) -> np.ndarray:
    """Return the product of every three lengths, (a, b, c) float64."""
    z, y, x = (length.astype(np.float64) for length in lengths)
    volumes: np.ndarray = z[:, None, None] * y[:, None] * x
    return volumes


def _even(size: int, count: int) -> list[tuple[int, int]]:
    """Cut ``size`` into ``count`` parts of equal length but for one voxel."""
    edges = [round(i * size / count) for i in range(count + 1)]
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]
