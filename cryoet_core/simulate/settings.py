"""What a simulation is asked for. Field names are those of the command's options."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from cryoet_core.support.errors import UserError


@dataclass(frozen=True)
class SimulationSettings:
    """Settings of simulated subtomograms, checked on creation.

    Attributes
    ----------
    per_class : int
        Subtomograms of each structure.
    box : int
        Box size in voxels.
    voxel_size : float
        Å per voxel.
    snr : float
        var(signal) / var(noise); infinite for no noise.
    tilt_range : (float, float)
        Lowest and highest tilt in degrees.
    tilt_step : float or None
        Degrees between tilts; None for a continuous range.
    defocus : tuple of float
        Underfocus in µm: one value, or the ends of a range.
    cs : float
        Spherical aberration in mm.
    voltage : float
        Acceleration voltage in kV.
    amplitude_contrast : float
        Fraction of the contrast that comes from amplitude.
    bfactor : float
        Decay of the signal with frequency, in Å^2.
    phase_shift : float
        Of a phase plate, in degrees.
    ctf : bool
        Whether the contrast transfer function is applied.
    mtf : str
        Transfer of the detector: ``"none"`` or ``"sinc"``.
    max_shift : float
        Largest shift of the target along each axis, in voxels.
    crowding : int
        Most neighbours around a target.
    empty_fraction : float
        Fraction of the subtomograms that have no target.
    orientation : str
        Law of the rotations: ``"uniform"`` on SO(3), or ``"aitom"``, see ``few_orientations``.
    snr_mode : str
        Meaning of ``snr``: ``"variance"`` as above, or ``"aitom"`` as in AITom's generator.
    contrast : str
        ``"bright"`` or ``"dark"`` protein in what is written.
    clean : bool
        Whether volumes without noise are kept too.
    seed : int
        Seed of all random numbers.

    Raises
    ------
    UserError
        A value is out of its range; the message names the argument.
    """

    per_class: int = 200
    box: int = 32
    voxel_size: float = 12.0
    snr: float = 0.1
    tilt_range: tuple[float, float] = (-60.0, 60.0)
    tilt_step: float | None = 3.0
    defocus: tuple[float, ...] = (4.0,)
    cs: float = 2.7
    voltage: float = 300.0
    amplitude_contrast: float = 0.07
    bfactor: float = 300.0
    phase_shift: float = 0.0
    ctf: bool = True
    mtf: str = "none"
    max_shift: float = 0.0
    crowding: int = 0
    empty_fraction: float = 0.0
    orientation: str = "uniform"
    snr_mode: str = "variance"
    contrast: str = "bright"
    clean: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.tilt_range
        self._need("per_class", self.per_class >= 1, "at least 1")
        self._need("box", 8 <= self.box <= 512, "8 to 512 voxels")
        self._need("voxel_size", 0 < self.voxel_size < math.inf, "more than 0 Å")
        self._need("snr", self.snr > 0, "more than 0 (inf for no noise)")
        self._need(
            "tilt_range", -90 <= low < high <= 90, "two angles in order from -90 to 90 degrees"
        )
        self._need(
            "tilt_step", self.tilt_step is None or 0 < self.tilt_step <= 180, "more than 0 degrees"
        )
        self._need(
            "defocus",
            self._defocus_is_right(),
            "one value, or two in order, of 0 to 50 um (underfocus)",
        )
        self._need("cs", 0 <= self.cs <= 20, "0 to 20 mm")
        self._need("voltage", 10 <= self.voltage <= 2000, "10 to 2000 kV")
        self._need("amplitude_contrast", 0 <= self.amplitude_contrast <= 1, "0 to 1")
        self._need("bfactor", 0 <= self.bfactor < math.inf, "0 Å^2 or more")
        self._need("phase_shift", -360 <= self.phase_shift <= 360, "-360 to 360 degrees")
        self._need("max_shift", 0 <= self.max_shift <= self.box / 2, "0 to half a box, in voxels")
        self._need("crowding", 0 <= self.crowding <= 50, "0 to 50 neighbours")
        self._need("empty_fraction", 0 <= self.empty_fraction < 1, "at least 0 and below 1")
        self._need("seed", self.seed >= 0, "0 or more")
        for name, known in CHOICES.items():
            self._need(name, getattr(self, name) in known, " or ".join(known))

    def _need(self, name: str, right: bool, expected: str) -> None:
        if not right:
            found = getattr(self, name)
            shown = " ".join(f"{v:g}" for v in found) if isinstance(found, tuple) else found
            raise UserError(f"`{name}`: {shown}; expected {expected}")

    def _defocus_is_right(self) -> bool:
        values = self.defocus
        return 1 <= len(values) <= 2 and 0 <= values[0] <= values[-1] <= 50

    @property
    def density_sign(self) -> int:
        """+1 where protein is bright in what is written, -1 where it is dark."""
        return 1 if self.contrast == "bright" else -1

    def empty(self, classes: int) -> int:
        """Return how many subtomograms without a target make the asked fraction of all.

        Parameters
        ----------
        classes : int
            How many classes there are.

        Returns
        -------
        int
            Subtomograms without a target.
        """
        return round(self.empty_fraction / (1 - self.empty_fraction) * self.per_class * classes)

    def as_dict(self) -> dict[str, Any]:
        """Return every setting as it can be written to JSON (an infinite SNR becomes None)."""
        values = asdict(self)
        return values | {"snr": self.snr if math.isfinite(self.snr) else None}

    def optics(self) -> dict[str, Any]:
        """Return the microscope, for the header of a store."""
        names = (
            "ctf",
            "cs",
            "voltage",
            "amplitude_contrast",
            "bfactor",
            "phase_shift",
            "mtf",
            "tilt_step",
        )
        return {name: getattr(self, name) for name in names} | {
            "defocus_um": list(self.defocus) if self.ctf else None
        }


CHOICES = {
    "mtf": ("none", "sinc"),
    "orientation": ("uniform", "aitom"),
    "snr_mode": ("variance", "aitom"),
    "contrast": ("bright", "dark"),
}
