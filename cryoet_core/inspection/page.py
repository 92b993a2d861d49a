"""The page of ``cryoet data inspect``, made to show a wrong convention at once.

It is one HTML file that loads nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.inspection import sheet
from cryoet_core.inspection.density import CLEAR, PlacementVerdict, Scored, judge
from cryoet_core.inspection.offset import Offset, offset
from cryoet_core.particles.placement import outside, rows_in
from cryoet_core.picks.hypotheses import Hypothesis
from cryoet_core.picks.table import Picks
from cryoet_core.report.drawing import images, palette, plots
from cryoet_core.report.drawing.section import Section, figures, paragraph
from cryoet_core.report.drawing.tomogram_slices import Rings, key, planes, side_by_side
from cryoet_core.report.drawing.words import Markup, number, percent, plural, table, text
from cryoet_core.report.page import document
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram, Tomograms

MOST_TOMOGRAMS = 3


def inspect(
    tomograms: Tomograms,
    picks: Picks,
    out: Path,
    *,
    diameter: float | None = None,
    named: str = "",
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the page and return its facts.

    Parameters
    ----------
    tomograms : Tomograms
        The tomograms.
    picks : Picks
        The picks in them.
    out : Path
        The HTML file to write.
    diameter : float, optional
        Å, of the particle; chosen by the density without it.
    named : str
        What files these are, for the heading.
    notes : sequence of str
        How the files were read.

    Returns
    -------
    dict
        The facts of the page.

    Raises
    ------
    UserError
        There are no picks, some are in tomograms that are not there, or the diameter is none.
    """
    if diameter is not None and not (np.isfinite(diameter) and diameter > 0):
        raise UserError(f"`diameter` {diameter:g}: expected a number of Å above 0")
    placed = rows_in(picks, tomograms)
    beyond = sum(
        int(outside(picks.positions[rows], tomograms.named(name)).sum())
        for name, rows in placed.items()
    )
    chosen = [tomogram for tomogram in tomograms if tomogram.name in placed]
    verdict = judge(chosen, picks, diameter)
    size = diameter or verdict.diameter
    most = sorted(chosen, key=lambda tomogram: -len(placed[tomogram.name]))[:MOST_TOMOGRAMS]
    other = None if verdict.given_is_best else _reread(tomograms, picks, verdict.best.hypothesis)
    off = (
        offset(Tomograms(tuple(chosen)), picks if other is None else other, size)
        if verdict.clear
        else None
    )
    groups = sheet.groups(tomograms, picks, size)
    if other is not None:
        unscored = replace(other, scores=np.full(len(other), np.nan, np.float32))
        read = [
            replace(group, title=f"Read as: {verdict.best.hypothesis}")
            for group in sheet.groups(tomograms, unscored, size)
        ]
        groups = read + groups
    parts = [
        _readings(verdict),
        *(_slabs(tomogram, picks, other, size, str(verdict.best.hypothesis)) for tomogram in most),
        _contact(groups),
        _scores(picks),
        _notes(notes),
    ]
    head = _head(picks, chosen, beyond, verdict, off, named)
    html = document("picks on tomograms", head, [part for part in parts if part is not None])
    files.write_bytes(out, html.encode())
    return {
        "out": str(out),
        "n": len(picks),
        "tomograms": len(chosen),
        "outside": beyond,
        "diameter": size,
        "verdict": " ".join(words for words in (verdict.words(), _moved(off, chosen)) if words),
        "offset": None if off is None else {"vector": off.vector.tolist(), "error": off.error},
        "given_is_best": verdict.given_is_best,
        "best": str(verdict.best.hypothesis),
        "readings": [_plain(row) for row in (*verdict.rows, verdict.best)],
        "notes": list(notes),
    }


def _plain(row: Scored) -> dict[str, Any]:
    return {
        "reading": str(row.hypothesis),
        "contrast": row.contrast,
        "errors": row.errors,
        "inside": row.inside,
    }


# ---- the parts -----------------------------------------------------------------------------------


def _head(
    picks: Picks,
    tomograms: Sequence[Tomogram],
    beyond: int,
    verdict: PlacementVerdict,
    off: Offset | None,
    named: str,
) -> str:
    counts = Counter(picks.class_names[c] if c >= 0 else "no class" for c in picks.classes)
    classes = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(4))
    scored = picks.scores[np.isfinite(picks.scores)]
    tiles = [
        ("picks", f"{len(picks):,}", classes if len(counts) > 1 else next(iter(counts))),
        (
            "tomograms",
            str(len(tomograms)),
            f"{len(picks) / len(tomograms):,.0f} picks in each, on average",
        ),
        ("outside", f"{beyond:,}", f"{percent(beyond / len(picks))} of the picks"),
        (
            "density at the picks",
            f"{verdict.given.contrast:+.2f} σ",
            f"{verdict.given.errors:+.1f} standard errors",
        ),
        (
            "off the middle",
            f"{off.length:.1f} Å" if off else "–",
            f"{off}\n± {off.error:.1f} Å" if off else "",
        ),
        ("scores", "none" if not len(scored) else number(float(np.median(scored))), _range(scored)),
        (
            "rotations",
            *(
                ("none", "")
                if picks.rotations is None
                else (percent(_rotated(picks)), "of the picks")
            ),
        ),
    ]
    drawn_tiles = "".join(
        f"<div><small>{text(name)}</small><b>{text(value)}</b><span>{text(below)}</span></div>"
        for name, value, below in tiles
    )
    moved = _moved(off, tomograms)
    good = verdict.clear and verdict.given_is_best and not verdict.dark and not beyond and not moved
    said = verdict.words()
    if beyond:
        verb = "lies" if beyond == 1 else "lie"
        said += f" {plural(beyond, 'pick')} of {len(picks):,} {verb} outside."
    said += f" {moved}" if moved else ""
    banner = f'<p class="banner{" good" if good else ""}">{text(said)}</p>'
    on = f" <span>{text(named)}</span>" if named else ""
    return (
        f"<header><h1>Picks on tomograms{on}</h1>{banner}<div "
        f'class="tiles">{drawn_tiles}</div></header>'
    )


def _moved(off: Offset | None, tomograms: Sequence[Tomogram]) -> str:
    """Say that picks are off the middle, where they are."""
    voxel = min(tomogram.voxel_size for tomogram in tomograms)
    if off is None or not off.matters(voxel):
        return ""
    return (
        f"What they pick is brightest {off.length:.1f} Å ({off.length / voxel:.1f} voxels) from "
        f"them ({off}, "
        f"± {off.error:.1f} Å): a convention of the middle, or particles that are not symmetric "
        "about it."
    )


def _range(scored: np.ndarray) -> str:
    return (
        f"median; {number(float(scored.min()))} to {number(float(scored.max()))}"
        if len(scored)
        else ""
    )


def _rotated(picks: Picks) -> float:
    assert picks.rotations is not None
    return float(np.isfinite(picks.rotations).all(axis=(1, 2)).mean()) if len(picks) else 0.0


def _readings(verdict: PlacementVerdict) -> Section:
    rows = list(verdict.rows)
    if verdict.best.hypothesis not in {row.hypothesis for row in rows}:
        rows.append(verdict.best)
    widest = max(abs(row.errors) for row in rows) or 1.0
    heads = (
        "reading of the coordinates",
        "picks inside",
        "density at the picks",
        "standard errors",
        "",
    )
    cells = []
    for row in rows:
        words = Markup(
            f"{text(str(row.hypothesis))}{' <small>best</small>' if row == verdict.best else ''}"
        )
        colour = (
            palette.SECOND
            if row == verdict.best
            else palette.ACCENT
            if abs(row.errors) >= CLEAR
            else "#b9bdc4"
        )
        width = 100 * abs(row.errors) / widest
        bar = f'<span class="share"><i style="width:{width:.0f}%;background:{colour}"></i></span>'
        contrast = f"{row.contrast:+.2f} σ".replace("-", "−")
        cells.append(
            [
                words,
                percent(row.inside),
                contrast,
                f"{row.errors:+.1f}".replace("-", "−"),
                Markup(bar),
            ]
        )
    html = table(heads, cells, "readings", [1, 2, 3])
    caption = paragraph(
        f"The density at the picks at the scale of {verdict.diameter:.0f} Å, less its "
        "surroundings, in standard "
        "deviations σ of that at random places (positive: bright, as protein should be). In "
        "standard errors: how far "
        "the sum over all picks stands out from that of the same pattern of points moved a bit; ",
        f"from {CLEAR:g} on it is hardly chance. Every combination of these readings was tried: "
        "the best is marked.",
        kind="caption",
    )
    return Section("What the coordinates may mean", html + caption)


def _reread(tomograms: Tomograms, picks: Picks, hypothesis: Hypothesis) -> Picks:
    """Return the picks where they would lie if their coordinates meant something else."""
    positions = picks.positions.copy()
    for tomogram in tomograms:
        rows = picks.tomograms == tomogram.name
        positions[rows] = hypothesis.positions(
            positions[rows], np.array(tomogram.shape), tomogram.voxel_size
        )
    return replace(picks, positions=positions)


def _slabs(
    tomogram: Tomogram, picks: Picks, other: Picks | None, diameter: float, reading: str
) -> Section:
    mine = picks.within(tomogram.name).positions
    rings = [Rings(mine, palette.mark(1).colour, word="as given")]
    if other is not None:
        rings.append(
            Rings(
                other.within(tomogram.name).positions,
                palette.mark(5).colour,
                "4 2",
                f"read as: {reading}",
            )
        )
    pictures = side_by_side(
        planes(tomogram, rings[-1].positions, diameter / 2), rings, diameter / 2
    )
    shape = " × ".join(str(n) for n in tomogram.shape)
    caption = paragraph(
        f"The slabs with the most picks, {diameter / 4:.0f} Å thick, protein bright. Rings: "
        "spheres of "
        f"{diameter:.0f} Å about the picks. {plural(len(mine), 'pick')} in {shape} voxels (z, y, "
        "x) of "
        f"{tomogram.voxel_size:.2f} Å.",
        kind="caption",
    )
    return Section(
        f"Tomogram {tomogram.name}", f"{key(rings) if other is not None else ''}{pictures}{caption}"
    )


def _contact(groups: Sequence[sheet.SheetGroup]) -> Section | None:
    if not groups:
        return None
    parts = []
    for group in groups:
        scored = np.isfinite(group.scores).all()
        said = (
            f", scores {number(float(group.scores.max()))} to {number(float(group.scores.min()))}"
            if scored
            else ""
        )
        average = images.strip(images.central_slices(group.average))
        parts.append(
            f'<div class="sheet"><h3>{text(group.title)}<small>{text(said)}</small></h3>'
            f'<img src="{images.strip([sheet.montage(group.tiles)])}" alt="picks">'
            f'<div><img src="{average}" alt="average" style="width:100%">'
            f'<div class="hint">average of {group.averaged:,}: xy, xz, yz</div></div></div>'
        )
    width = groups[0].tiles.shape[1] * groups[0].voxel_size / 10
    caption = paragraph(
        f"Central xy slices of boxes {width:.0f} nm wide, smoothed for the eye, one grey scale for "
        "each group, protein "
        "bright. Averages are not aligned: what all orientations share should be a bright blob in "
        "the middle. An "
        "average that is off the middle, or flat, tells of picks that are off or of none.",
        kind="caption",
    )
    return Section("Picks side by side", "".join(parts) + caption)


def _scores(picks: Picks) -> Section | None:
    known = picks.scores[np.isfinite(picks.scores)]
    if len(known) < 2 or np.ptp(known) == 0:
        return None
    plot = plots.counts(known, "score", "picks", 560)
    return Section("Scores", figures([("", "scores")]), {"scores": plot})


def _notes(notes: Sequence[str]) -> Section | None:
    if not notes:
        return None
    items = "".join(f"<li>{text(note)}</li>" for note in notes)
    return Section("How the files were read", f'<ul class="notes">{items}</ul>')
