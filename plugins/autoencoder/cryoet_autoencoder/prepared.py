"""Prepared cubes, held once on the device where they fit, else prepared anew each time: the same
numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryoet_autoencoder.pose import Preparation
from cryoet_core.runs.volumes import DeviceVolumes

BATCH = 64


class PreparedVolumes:
    """``volumes[rows]`` is (b, 1, d, d, d) float32 on the device, for rows (b,) int64. Values pass
    through float16.
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
