"""Hold the subtomograms of one domain on the device, at the size that the network sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cryoet_core.algorithms.transforms import standardise
from cryoet_core.runs.run import Run

if TYPE_CHECKING:
    from cryoet_core.store import Subtomograms

BATCH = 64


class Cubes:
    """Give batches (b, 1, e, e, e) float32 of a data set, standardised.

    Smaller subtomograms are cut out of the spectrum, once, and held as float16 on the device where
    they fit in the run's memory; else they are read and cut batch by batch, with the same numbers.

    Parameters
    ----------
    data : Subtomograms
        Subtomograms, all of one box size.
    run : Run
        The run: device, random numbers, log and checkpoints.
    edge : int, optional
        Edge e in voxels; 0 for the box size.
    """

    def __init__(self, data: Subtomograms, run: Run, edge: int = 0) -> None:
        self.volumes = run.volumes(data)
        self.device, self.edge = run.device, edge or data.box
        self.cut = self.edge < data.box
        self._small = (
            self._all() if self.cut and 2 * len(data) * self.edge**3 <= run.max_memory else None
        )

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return a batch for a vector of indices."""
        if self._small is not None:
            return self._small[rows.to(self.device)].float()
        return self._cropped(self.volumes[rows]) if self.cut else self.volumes[rows]

    def _all(self) -> Tensor:
        small = torch.empty(
            (len(self), 1, *(self.edge,) * 3), dtype=torch.float16, device=self.device
        )
        for start, batch in zip(
            range(0, len(self), BATCH), self.volumes.batches(BATCH), strict=True
        ):
            small[start : start + BATCH] = self._cropped(batch)
        return small

    def _cropped(self, volumes: Tensor) -> Tensor:
        return standardise(fourier_crop(volumes, self.edge)).half().float()


def fourier_crop(volumes: Tensor, edge: int) -> Tensor:
    """Crop volumes (..., b, b, b) in Fourier space to (..., edge, edge, edge) of the same extent.

    What is at voxel b // 2 comes to edge // 2. Frequencies at the new Nyquist limit are left out.
    """
    box, reach = volumes.shape[-1], (edge - 1) // 2
    axes = (-3, -2, -1)
    spectrum = torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=axes), dim=axes)[..., : reach + 1]
    kept = torch.arange(-reach, reach + 1, device=volumes.device)
    spectrum = spectrum.index_select(-3, kept % box).index_select(-2, kept % box)
    full = spectrum.new_zeros(*volumes.shape[:-3], edge, edge, edge // 2 + 1)
    places = kept % edge
    full[..., places[:, None], places, : reach + 1] = spectrum
    small = torch.fft.irfftn(full, s=(edge, edge, edge), dim=axes)
    centred: Tensor = torch.fft.fftshift(small, dim=axes) * (edge / box) ** 3
    return centred
