"""How the result came about: options, input files, versions, where the time went."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from cryoet_core.report.drawing.section import Section
from cryoet_core.report.drawing.templates import fill
from cryoet_core.report.drawing.words import (
    Markup,
    duration,
    number,
    percent,
    plural,
    size,
    table,
    text,
)
from cryoet_core.report.facts import Facts

Titled: TypeAlias = tuple[str, Markup, str]
"""Title, table and note."""


def configuration(facts: Facts) -> Section | None:
    """List every option of the method: its value, and where that comes from."""
    values: dict[str, Any] = facts.record.get("config") or {}
    if not values:
        return None
    known = {option.name: option for option in facts.options}
    preset = facts.record.get("preset")
    if not known:
        rows = [[flag(name), _value(value)] for name, value in values.items()]
        return Section("Configuration", table(["option", "value"], rows, "config", []))
    rows = []
    for name, value in values.items():
        option = known.get(name)
        default = option.default if option else None
        planned = option.presets.get(preset, default) if option and preset else default
        if option and not _same(value, planned):
            came = "set"
        else:
            came = "" if not option or _same(value, default) else f"preset {preset}"
        shown = Markup(f"<b>{text(_value(value))}</b>") if came else _value(value)
        rows.append(
            [
                flag(name),
                shown,
                _value(default),
                came,
                (option.paper if option else None) or "",
                option.help if option else "",
            ]
        )
    heads = ["option", "value", "default", "from", "the paper", "meaning"]
    return Section("Configuration", table(heads, rows, "config", []))


def flag(name: str) -> Markup:
    """Return the name of an option as it is typed."""
    return Markup(f"<code>--{text(name.replace('_', '-'))}</code>")


def _same(a: Any, b: Any) -> bool:
    return bool(_value(a) == _value(b))


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def origin(facts: Facts) -> Section | None:
    """Say how the run was made and with what, its input files and its time."""
    run = facts.run
    came: dict[str, Any] = run.get("provenance") or {}
    options: dict[str, Any] = facts.record.get("options") or {}
    peak = run.get("peak_memory") or {}
    rows = [
        (
            "command",
            Markup(f"<code>{text(came['command'])}</code>") if came.get("command") else None,
        ),
        ("folder", str(facts.folder)),
        ("started", _time(run.get("started"))),
        ("finished", _time(run.get("finished"))),
        ("resumed", plural(run["resumed"], "time") if run.get("resumed") else None),
        ("seed", facts.record.get("seed")),
        ("device", came.get("device")),
        ("processes", run.get("processes")),
        ("precision", options.get("precision")),
        ("memory at most", size(options["max_memory"]) if options.get("max_memory") else None),
        (
            "peak memory",
            ", ".join(
                f"{size(n)} ({where})" for where, n in peak.items() if isinstance(n, (int, float))
            ),
        ),
        ("host", came.get("host")),
        ("system", came.get("platform")),
        ("Python", came.get("python")),
        ("commit", came.get("commit")),
    ]
    rows += [(name, version) for name, version in (came.get("packages") or {}).items()]
    plugin = (came.get("plugins") or {}).get(facts.method)
    rows += [("plugin", plugin)] if plugin else []
    if not any(value not in (None, "") for _, value in rows):
        return None
    how = table(["", ""], [r for r in rows if r[1] not in (None, "")], "facts", [])
    right = [part for part in (_timings(run), _inputs(run)) if part]
    columns = [[("How it was run", how, "")], right]
    return Section("Origin", fill("origin.html", columns=[column for column in columns if column]))


def _time(stamp: Any) -> str | None:
    """``2025-01-31T12:30:00+0000`` -> ``2025-01-31 12:30:00 +0000``."""
    return f"{stamp[:10]} {stamp[11:19]} {stamp[19:]}".strip() if isinstance(stamp, str) else None


def _timings(run: dict[str, Any]) -> Titled | None:
    """Seconds of each phase; phases may lie inside one another, so fractions need not add up."""
    timings = {
        k: float(v) for k, v in (run.get("timings") or {}).items() if isinstance(v, (int, float))
    }
    wall = float(run.get("wall_seconds") or 0)
    if not timings and not wall:
        return None
    rows = [
        [
            name,
            duration(seconds),
            Markup(percent(seconds / wall)) if wall else None,
            _bar(seconds / wall if wall else 0),
        ]
        for name, seconds in sorted(timings.items(), key=lambda pair: -pair[1])
    ]
    rows.append([Markup("<b>wall time</b>"), duration(wall), None, ""])
    note = "A phase may be part of another one." if len(timings) > 1 else ""
    return "Time", table(["phase", "time", "fraction", ""], rows, "facts", [1, 2]), note


def _bar(fraction: float) -> Markup:
    return Markup(f'<span class="share"><i style="width:{100 * min(fraction, 1):.1f}%"></i></span>')


def _inputs(run: dict[str, Any]) -> Titled | None:
    rows = []
    for name, group in (run.get("fingerprints") or {}).items():
        for print_ in group:
            bytes_ = size(print_["bytes"]) if "bytes" in print_ else None
            code = Markup(f"<code>{text(str(print_.get('sha256_sampled', ''))[:16])}</code>")
            rows.append([f"--{name}", Path(print_["path"]).name, bytes_, code])
    if not rows:
        return None
    return "Input", table(["", "file", "size", "SHA-256 of samples"], rows, "facts", [2]), ""


def card(facts: Facts) -> str | None:
    """Describe the data: ``box 32³, voxels of 12.0 Å, tilts -60° to 60°, SNR 0.1``."""
    data = facts.data
    if data is None:
        kept = (facts.run.get("facts") or {}).get("data") or {}
        if not kept:
            return None
        box = f"box {kept['box']}³, " if kept.get("box") else ""
        return f"{box}voxels of {number(float(kept['voxel_size']), 2)} Å"
    words = [f"box {data.box}³", f"voxels of {data.voxel_size:.2f} Å"]
    if data.tilt_range:
        words.append(f"tilts {data.tilt_range[0]:g}° to {data.tilt_range[1]:g}°".replace("-", "−"))
    if data.snr:
        words.append(f"SNR {data.snr:g}")
    return ", ".join(words)
