"""Label every voxel of a tomogram, in tiles without seams, and of subtomograms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoet_autoencoder.layers import STEP
from cryoet_autoencoder.segmentation_network import MARGIN, EncoderDecoder3D
from cryoet_core.runs.run import Run
from cryoet_core.tomograms import Tomogram
from cryoet_core.tomograms.tiles import score_map

BATCH = 32


def segmented(
    network: EncoderDecoder3D, tomogram: Tomogram, run: Run
) -> tuple[np.ndarray, np.ndarray]:
    """Label each voxel of a tomogram with its most probable class.

    Because of its pooling the network gives the same for a tile as for the whole only where the
    tile begins at a multiple of 4 (binned) voxels. So the tiles' unit is a block of 4^3, whose
    voxels are carried in the channels.

    Parameters
    ----------
    network : EncoderDecoder3D
        The network.
    tomogram : Tomogram
        The tomogram.
    run : Run
        The run: device, random numbers, log and checkpoints.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Class, uint8, and its probability, float16; both (d, h, w) / bin, rounded up.
    """
    unit = STEP * network.bin

    def blocks(region: Tensor) -> Tensor:
        with run.autocast():
            logits = network(region)[0]
        own, label = logits.float().softmax(0).max(0)
        both = torch.stack((label.float(), own))  # (2, d, h, w)
        cells = both.unflatten(3, (-1, STEP)).unflatten(2, (-1, STEP)).unflatten(1, (-1, STEP))
        packed: Tensor = cells.permute(0, 2, 4, 6, 1, 3, 5).reshape(
            1, 2 * STEP**3, *(n // STEP for n in both.shape[1:])
        )
        return packed

    packed = score_map(
        tomogram,
        blocks,
        margin=(MARGIN * network.bin,) * 3,
        run=run,
        channels=2 * STEP**3,
        stride=(unit,) * 3,
        name="segmentation",
        working_bytes=16 * network.down1.out_channels // network.bin**3 + 64,
    )
    shape = [-(-n // network.bin) for n in tomogram.shape]
    label, own = packed.reshape(2, STEP**3, *packed.shape[1:])
    return _whole(label, shape).astype(np.uint8), _whole(own, shape).astype(np.float16)


def _whole(blocks: np.ndarray, shape: list[int]) -> np.ndarray:
    """Blocks (64, m, n, o) of 4^3 voxels each, put together and cut to ``shape``."""
    m, n, o = blocks.shape[1:]
    cells = blocks.reshape(STEP, STEP, STEP, m, n, o).transpose(3, 0, 4, 1, 5, 2)
    d, h, w = shape
    whole: np.ndarray = cells.reshape(m * STEP, n * STEP, o * STEP)[:d, :h, :w]
    return whole


def on_grid(labels: np.ndarray, bin: int, seen: Tomogram, tomogram: Tomogram) -> np.ndarray:
    """Put binned labels on the voxels of a tomogram, which may be of another size.

    Parameters
    ----------
    labels : np.ndarray
        Binned labels (d, h, w) of ``seen``.
    bin : int
        Voxels averaged per axis before the network.
    seen : Tomogram
        The tomogram at the voxel size of the network.
    tomogram : Tomogram
        The tomogram whose voxels are wanted.

    Returns
    -------
    np.ndarray
        Labels on these voxels.
    """
    lines = [
        np.minimum(
            np.rint(np.arange(n) * tomogram.voxel_size / seen.voxel_size).astype(np.int64) // bin,
            have - 1,
        )
        for n, have in zip(tomogram.shape, labels.shape, strict=True)
    ]
    whole: np.ndarray = labels[np.ix_(*lines)]
    return whole


def on_one_scale(data: Any) -> tuple[float, float]:
    """Return level and spread that bring stored values to those of a standardised tomogram.

    Stored values count times their density sign. Both are medians of the subtomograms' means and
    standard deviations: subtomograms keep what they differ in, as they do within a tomogram.
    """
    mean, deviation = data.statistics()
    return float(np.median(mean * data.signs)), float(np.median(deviation))


@torch.no_grad()
def cube_labels(network: EncoderDecoder3D, data: Any, run: Run) -> Iterator[np.ndarray]:
    """Label the voxels of subtomograms, batch by batch.

    Parameters
    ----------
    network : EncoderDecoder3D
        The network.
    data : Any
        Subtomograms, all of one box size.
    run : Run
        The run: device, random numbers, log and checkpoints.

    Returns
    -------
    Iterator[np.ndarray]
        Labels (b, box, box, box) int8.
    """
    from cryoet_core.runs.volumes import DeviceVolumes

    level, spread = on_one_scale(data)
    volumes = DeviceVolumes(data, run.device, 0, standardise=False)
    index = (torch.arange(data.box, device=run.device) // network.bin).clamp(
        max=data.box // network.bin - 1
    )
    for batch in volumes.batches(BATCH):
        label = network((batch - level) / spread).argmax(1).to(torch.int8)
        yield label[:, index][:, :, index][:, :, :, index].cpu().numpy()
