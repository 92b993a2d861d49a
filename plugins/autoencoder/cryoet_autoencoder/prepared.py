"""Hold prepared subtomograms on the device where they fit, else prepare them anew each time."""

from __future__ import annotations

import torch
from torch import Tensor

from cryoet_autoencoder.pose import Preparation
from cryoet_core.runs.volumes import DeviceVolumes

BATCH = 64


class PreparedVolumes:
    """Give batches ``volumes[rows]`` (b, 1, d, d, d) float32 on the device, for rows (b,) int64.

    Values pass through float16, so that the numbers are the same held or not.

    Parameters
    ----------
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    preparation : Preparation
        What is done with the volumes.
    budget : int
        Bytes that may be held.
    """

    def __init__(self, volumes: DeviceVolumes, preparation: Preparation, budget: int) -> None:
        self.volumes, self.preparation = volumes, preparation
        self._held: Tensor | None = None
        if volumes.nbytes <= budget:
            self._held = torch.cat(
                [preparation(part).volumes.half() for part in volumes.batches(BATCH)]
            )

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, rows: Tensor) -> Tensor:
        if self._held is not None:
            return self._held[rows.to(self._held.device)].float()
        return self.preparation(self.volumes[rows]).volumes.half().float()
