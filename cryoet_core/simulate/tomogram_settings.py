"""What a simulated tomogram is asked for. Field names are those of the command's options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cryoet_core.simulate.shapes.structures import Structure
from cryoet_core.support.errors import UserError


@dataclass(frozen=True)
class TomogramSettings:
    """Settings of simulated tomograms, checked on creation.

    Attributes
    ----------
    shape : (int, int, int)
        Voxels (z, y, x).
    voxel_size : float
        Å per voxel.
    copies : tuple of int
        Copies of each structure: one value for all, or one for each.
    volume_fraction : float or None
        Fraction of the volume that particles fill, in place of ``copies``.
    margin : float
        Least distance of particles from the faces, in Å.
    membranes, filaments, beads : int
        How many of each distractor.
    route : str
        Image formation: ``"filter"`` or ``"tilts"``.
    snr : float
        var(signal) / var(noise); infinite for no noise.
    ice_gradient : float
        Change of the noise across the field, see ``specimen.noise_profile``.
    tilt_range : (float, float)
        Lowest and highest tilt in degrees.
    tilt_step : float
        Degrees between tilts.
    dose : float
        e/Å^2 of the whole series (route "tilts").
    defocus : tuple of float
        Underfocus in µm: one value, or the ends of a range from which each tomogram draws.
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
    seed : int
        Seed of all random numbers.

    Raises
    ------
    UserError
        A value is out of its range; the message names the argument.
    """

    shape: tuple[int, int, int] = (128, 512, 512)
    voxel_size: float = 10.0
    copies: tuple[int, ...] = (200,)
    volume_fraction: float | None = None
    margin: float = 20.0
    membranes: int = 0
    filaments: int = 0
    beads: int = 0
    route: str = "filter"
    snr: float = 0.1
    ice_gradient: float = 0.0
    tilt_range: tuple[float, float] = (-60.0, 60.0)
    tilt_step: float = 3.0
    dose: float = 100.0
    defocus: tuple[float, ...] = (4.0,)
    cs: float = 2.7
    voltage: float = 300.0
    amplitude_contrast: float = 0.07
    bfactor: float = 300.0
    phase_shift: float = 0.0
    ctf: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.tilt_range
        fraction = self.volume_fraction
        self._need(
            "shape",
            len(self.shape) == 3 and all(16 <= n <= 8192 for n in self.shape),
            "three of 16 to 8192",
        )
        self._need("voxel_size", 0 < self.voxel_size < math.inf, "more than 0 Å")
        self._need(
            "copies", len(self.copies) > 0 and min(self.copies) >= 0, "0 or more of each structure"
        )
        self._need(
            "volume_fraction", fraction is None or 0 < fraction < 1, "more than 0 and below 1"
        )
        self._need("margin", 0 <= self.margin < math.inf, "0 Å or more")
        for name in ("membranes", "filaments", "beads"):
            self._need(name, 0 <= getattr(self, name) <= 10_000, "0 to 10000")
        self._need("route", self.route in ROUTES, " or ".join(ROUTES))
        self._need("snr", self.snr > 0, "more than 0 (inf for no noise)")
        self._need("ice_gradient", 0 <= self.ice_gradient <= 1, "0 to 1")
        self._need(
            "tilt_range", -90 <= low < high <= 90, "two angles in order from -90 to 90 degrees"
        )
        self._need(
            "tilt_step",
            0 < self.tilt_step <= high - low,
            f"more than 0 and at most {high - low:g} degrees",
        )
        self._need("dose", 0 <= self.dose < math.inf, "0 e/Å^2 or more")
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
        self._need("seed", self.seed >= 0, "0 or more")

    def _need(self, name: str, right: bool, expected: str) -> None:
        if not right:
            found = getattr(self, name)
            shown = " ".join(f"{v:g}" for v in found) if isinstance(found, tuple) else found
            raise UserError(f"`{name}`: {shown}; expected {expected}")

    def _defocus_is_right(self) -> bool:
        values = self.defocus
        return 1 <= len(values) <= 2 and 0 <= values[0] <= values[-1] <= 50

    def check(self, structures: Sequence[Structure]) -> None:
        """Check that structures fit these settings.

        Parameters
        ----------
        structures : sequence of Structure
            The classes, in the order of their labels.

        Raises
        ------
        UserError
            They do not; the message names the argument.
        """
        names = [s.name for s in structures]
        if not names:
            raise UserError("no structures; expected at least one: give `structures` or `phantoms`")
        if len(names) > 250:
            raise UserError(
                f"`structures`: {len(names)} of them; expected at most 250, as masks hold no more"
            )
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(f"structure name {twice!r}: taken twice; expected different names")
        if len(self.copies) not in (1, len(names)):
            raise UserError(
                f"`copies`: {len(self.copies)} values for {len(names)} structures "
                f"({', '.join(names)}); "
                "expected one value for all or one for each"
            )
        for s in structures:
            need = math.ceil((s.diameter + 2 * self.margin) / self.voxel_size) + 1
            if min(self.shape) < need:
                raise UserError(
                    f"`shape`: {' '.join(map(str, self.shape))} voxels of {self.voxel_size:g} Å "
                    f"cannot hold {s.name} "
                    f"({s.diameter:.0f} Å) in every rotation with margins of {self.margin:g} Å; "
                    "expected at least "
                    f"{need} on each axis; raise `shape` or lower `margin`"
                )

    def copies_of(self, structures: int) -> list[int]:
        """Return how many copies of each structure are asked for.

        Parameters
        ----------
        structures : int
            How many structures there are.

        Returns
        -------
        list of int
            Copies of each.
        """
        return (
            list(self.copies) if len(self.copies) == structures else [self.copies[0]] * structures
        )

    def as_dict(self) -> dict[str, Any]:
        """Return every setting as it can be written to JSON (an infinite SNR becomes None)."""
        return asdict(self) | {"snr": self.snr if math.isfinite(self.snr) else None}

    def optics(self) -> dict[str, Any]:
        """Return the microscope, for the header of a store."""
        names = ["route", "ctf", "cs", "voltage", "amplitude_contrast", "bfactor", "phase_shift"]
        return {
            name: getattr(self, name)
            for name in names + (["tilt_step", "dose"] if self.route == "tilts" else [])
        }


ROUTES = ("filter", "tilts")
