"""A store in numbers, for ``cryoet data info``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cryoet_core.store.layout import SPLITS
from cryoet_core.store.subtomograms import Subtomograms


def describe_store(data: Subtomograms) -> dict[str, Any]:
    """Return the facts of a data set: counts, geometry, conventions, classes and what is known."""
    tomograms = Counter(str(name) for name in data.tomogram) if data.tomogram is not None else {}
    facts: dict[str, Any] = {
        "n": len(data),
        "box": data.box,
        "voxel_size": data.voxel_size,
        "dtype": str(data.dtype),
        "volume_bytes": len(data) * data.box**3 * data.dtype.itemsize,
        "contrast": {1: "protein bright", -1: "protein dark", 0: "files differ"}[data.density_sign],
        "density_sign": data.density_sign,
        "tilt_range": data.tilt_range,
        "tilt_axis": data.tilt_axis,
        "snr": data.snr,
        "optics": data.optics,
        "classes": {
            name: int((data.labels == index).sum()) for index, name in enumerate(data.class_names)
        },
        "unlabelled": int((data.labels < 0).sum()),
        "tomograms": dict(sorted(tomograms.items())),
        "positions": data.positions is not None,
        "rotations": data.rotations is not None,
        "extras": data.extra_names,
        "conventions": "axes z, y, x; positions in Å, voxel i at i * voxel size; rotations active, "
        "from reference",
    }
    if data.split is not None:
        facts["split"] = {name: int((data.split == code).sum()) for code, name in enumerate(SPLITS)}
    return facts
