"""A volume seen with other voxels, computed region by region where it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryoet_core.tomograms.volume import Region, Volume

REACH = 2.0
"""Half width of the cubic kernel, in voxels of the coarser of the two grids."""
_BLOCK = 64


@dataclass(frozen=True)
class ResampledVolume:
    """A volume on a grid with other voxels, which begins at the same point.

    Each axis is weighted with the cubic convolution kernel of Keys (a = -1/2) [1]_, stretched by
    the factor where it is above 1, which makes it the low-pass that keeps finer detail from folding
    back. Weights depend on a voxel's own index alone, so a region of the view is the same whatever
    else is read with it. At the edges the weights that fall outside are left out and the others sum
    to 1.

    Attributes
    ----------
    source : Volume
        The volume.
    factor : float
        How many times as large the voxels are.

    References
    ----------
    .. [1] R. G. Keys, Cubic convolution interpolation for digital image processing, IEEE Trans.
    Acoust.
       Speech Signal Process. 29 (1981) 1153-1160. https://doi.org/10.1109/TASSP.1981.1163711
    """

    source: Volume
    factor: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x), as many as lie within the source."""
        d, h, w = (int((size - 1) / self.factor + 1e-6) + 1 for size in self.source.shape)
        return d, h, w

    def read(self, region: Region) -> np.ndarray:
        """Return a region (z, y, x) of the view, float32."""
        spans = [part.indices(size)[:2] for part, size in zip(region, self.shape, strict=True)]
        if any(stop <= start for start, stop in spans):
            return np.zeros([max(stop - start, 0) for start, stop in spans], np.float32)
        inner = [
            self._source_span(*span, size)
            for span, size in zip(spans, self.source.shape, strict=True)
        ]
        z, y, x = (slice(*span) for span in inner)
        values = self.source.read((z, y, x))
        with np.errstate(invalid="ignore"):  # NaN is met by who reads a tomogram
            for axis in (2, 1, 0):
                values = self._along(values, axis, spans[axis], inner[axis][0])
        return values

    def _source_span(self, start: int, stop: int, size: int) -> tuple[int, int]:
        reach = REACH * max(self.factor, 1.0)
        low = int(np.ceil(start * self.factor - reach))
        high = int(np.floor((stop - 1) * self.factor + reach))
        return max(low, 0), min(high + 1, size)

    def _along(
        self, values: np.ndarray, axis: int, span: tuple[int, int], offset: int
    ) -> np.ndarray:
        """Resample one axis, in blocks, for the matrices of weights are banded."""
        parts = []
        for start in range(span[0], span[1], _BLOCK):
            stop = min(start + _BLOCK, span[1])
            low, high = self._source_span(start, stop, offset + values.shape[axis])
            weights = self._weights(start, stop, low, high, self.source.shape[axis])
            taken = values[(slice(None),) * axis + (slice(low - offset, high - offset),)]
            if axis == 2:
                parts.append(taken @ weights.T)
            elif axis == 1:
                parts.append(weights @ taken)
            else:
                parts.append(
                    (weights @ taken.reshape(len(taken), -1)).reshape(
                        stop - start, *taken.shape[1:]
                    )
                )
        return np.concatenate(parts, axis=axis)

    def _weights(self, start: int, stop: int, low: int, high: int, size: int) -> np.ndarray:
        """Return weights (stop - start, high - low) of source voxels in voxels start to stop."""
        scale = max(self.factor, 1.0)
        centres = np.minimum(np.arange(start, stop) * self.factor, size - 1)
        weights = keys_cubic((np.arange(low, high)[None] - centres[:, None]) / scale)
        normalised: np.ndarray = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        return normalised


def keys_cubic(distance: np.ndarray) -> np.ndarray:
    """Return the cubic convolution kernel with a = -1/2; zero from a distance of 2.

    Examples
    --------
    >>> import numpy as np
    >>> keys_cubic(np.array([0.0, 0.5, 1.0]))
    array([1.    , 0.5625, 0.    ])
    """
    t = np.abs(distance)
    near = (1.5 * t - 2.5) * t**2 + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    kernel: np.ndarray = np.where(t < 1, near, np.where(t < 2, far, 0.0))
    return kernel
