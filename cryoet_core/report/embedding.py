"""The map of the embedding: a point for each particle, coloured by cluster or true class.

Under the pointer it shows the slices of the particle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cryoet_core.report.drawing import images, plots
from cryoet_core.report.drawing.palette import Mark, mark
from cryoet_core.report.facts import Facts

MOST = 1500
"""Particles on the map; of more, a sample."""
_SMALL = 40
"""With fewer particles t-SNE says nothing."""
_SHADES = 32
_READ = 256


@dataclass(frozen=True)
class EmbeddingMap:
    """The plot of an embedding, and what its legends say.

    Attributes
    ----------
    plot : bokeh Figure
        The plot.
    shown : int
        How many particles it shows.
    layouts : tuple of str
        Names of the layouts that the reader can choose.
    clusters, classes : dict of int to str
        Names of the clusters and of the true classes, by label.
    class_marks : dict of int to Mark
        Colour and marker of each true class.
    with_slices : bool
        Whether slices of the particles are shown.
    """

    plot: Any
    shown: int
    layouts: tuple[str, ...]
    clusters: dict[int, str]
    classes: dict[int, str]
    class_marks: dict[int, Mark]
    with_slices: bool


def embedding_map(facts: Facts, width: int = 890, height: int = 640) -> EmbeddingMap | None:
    """Draw the embedding of a run.

    Parameters
    ----------
    facts : Facts
        What is known of the run.
    width, height : int
        Pixels.

    Returns
    -------
    EmbeddingMap or None
        None when the method left no embedding, or there are fewer than two particles.
    """
    predictions = facts.predictions
    if predictions is None or predictions.labels.embedding is None or len(predictions) < 2:
        return None
    labels = predictions.labels
    rows = sample(labels.labels, MOST)
    layouts = _layouts(np.nan_to_num(predictions.labels.embedding[rows].astype(np.float64)))
    true = facts.true[rows] if facts.true is not None else None
    marks = class_marks(facts)
    columns = _columns(facts, rows, true, marks)
    for name, points in layouts.items():
        columns[f"{name} x"], columns[f"{name} y"] = points.T.astype(np.float32)
    first = next(iter(layouts))
    columns["x"], columns["y"] = columns[f"{first} x"].copy(), columns[f"{first} y"].copy()
    pictures = _pictures(facts, rows)
    if pictures:
        columns["image"] = pictures
    return EmbeddingMap(
        plot=_plot(columns, width, height, bool(pictures), true is not None),
        shown=len(rows),
        layouts=tuple(layouts),
        clusters=_legend(labels.labels[rows], labels.classes),
        classes=_legend(true, facts.data.class_names) if true is not None and facts.data else {},
        class_marks=marks,
        with_slices=bool(pictures),
    )


def sample(labels: np.ndarray, most: int, least: int = 5) -> np.ndarray:
    """Choose the particles to show.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Labels of all particles.
    most : int
        How many to choose at most.
    least : int
        How many to choose at least of each label (fewer if it has fewer).

    Returns
    -------
    ndarray of int
        Rows in ascending order: all, or ``most`` at random.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(0).permutation(len(labels))
    kept: list[np.ndarray] = []
    for label in np.unique(labels):
        kept.append(order[labels[order] == label][:least])
    first = np.concatenate(kept)[:most]
    rest = order[~np.isin(order, first)][: most - len(first)]
    return np.sort(np.concatenate([first, rest]))


def class_marks(facts: Facts) -> dict[int, Mark]:
    """Return a mark for each true class.

    It is the mark of the cluster that the class was matched to, or one that no cluster has.

    Parameters
    ----------
    facts : Facts
        What is known of the run.

    Returns
    -------
    dict of int to Mark
        Marks by label.
    """
    if facts.data is None or facts.scores is None:
        return {}
    names = facts.data.class_names
    if facts.task == "classification":
        known = {name: mark(i) for i, name in enumerate(facts.classes)}
        spare = len(known)
    else:
        clusters = {name: i for i, name in enumerate(facts.classes)}
        known = {
            t: mark(clusters[c])
            for c, t in facts.scores.get("matching", {}).items()
            if c in clusters
        }
        spare = len(clusters)
    marks = {-1: mark(-1)}
    for i, name in enumerate(names):
        if name in known:
            marks[i] = known[name]
        else:
            marks[i], spare = mark(spare), spare + 1
    return marks


def _layouts(embedding: np.ndarray) -> dict[str, np.ndarray]:
    """Layout name -> points (n, 2), each axis centred; t-SNE first where there are enough
    points.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n, features = embedding.shape
    if not features or not embedding.std(axis=0).any():
        return {"PCA": np.zeros((n, 2))}
    kept = min(30, n, features)
    parts = PCA(kept, random_state=0).fit_transform(embedding)
    if kept == 1:
        parts = np.column_stack([parts, np.zeros(n)])
    found = {"PCA": parts[:, :2]}
    if n < _SMALL or features < 3:
        return found
    scaled = parts / parts.std()
    tsne = TSNE(
        2, init="pca", perplexity=min(30, n / 4), max_iter=500, random_state=0
    ).fit_transform(scaled)
    return {"t-SNE": tsne, **found}


def _columns(
    facts: Facts, rows: np.ndarray, true: np.ndarray | None, marks: dict[int, Mark]
) -> dict[str, Any]:
    assert facts.predictions is not None
    labels = facts.predictions.labels
    given = labels.labels[rows]
    best = (
        labels.probabilities[rows].max(axis=1)
        if labels.probabilities.shape[1]
        else np.zeros(len(rows))
    )
    by_cluster = [mark(int(label)) for label in given]
    columns: dict[str, Any] = {
        "row": rows,
        "label": given,
        "cluster": [labels.classes[label] if label >= 0 else "not assigned" for label in given],
        "posterior": best.round(4),
        "colour": [m.colour for m in by_cluster],
        "marker": [m.marker for m in by_cluster],
        "alpha": np.full(len(rows), 0.75),
        "cluster colour": [m.colour for m in by_cluster],
        "cluster marker": [m.marker for m in by_cluster],
        "cluster label": given,
    }
    if true is not None and facts.data is not None:
        by_class = [marks.get(int(label), mark(-1)) for label in true]
        columns["class"] = [
            facts.data.class_names[label] if label >= 0 else "not labelled" for label in true
        ]
        columns["class colour"] = [m.colour for m in by_class]
        columns["class marker"] = [m.marker for m in by_class]
        columns["class label"] = true
    return columns


def _pictures(facts: Facts, rows: np.ndarray) -> list[str]:
    """The slices of each row as an image address; none when the data is not there."""
    if facts.data is None:
        return []
    found: list[str] = []
    for start in range(0, len(rows), _READ):
        z, y, x = images.smoothed_slices(facts.data.read(rows[start : start + _READ]))
        found += [
            images.strip(list(three), _SHADES, shrink=True) for three in zip(z, y, x, strict=True)
        ]
    return found


def _plot(columns: dict[str, Any], width: int, height: int, slices: bool, true: bool) -> Any:
    from bokeh.models import ColumnDataSource, HoverTool

    source = ColumnDataSource(columns, name="map")
    plot = plots.figure("", "", width, height, tools="pan,wheel_zoom,box_zoom,reset")
    plot.axis.visible = False
    plot.grid.visible = False
    plot.min_border_left = plot.min_border_right = 6
    plot.outline_line_color = "#D4D7DC"
    points = plot.scatter(
        "x",
        "y",
        source=source,
        marker="marker",
        size=7 if len(columns["row"]) > 400 else 9,
        fill_color="colour",
        line_color="colour",
        fill_alpha="alpha",
        line_alpha="alpha",
        line_width=0.5,
    )
    points.nonselection_glyph = None
    picture = (
        '<img src="@image" width="321" height="106" style="display:block" alt="">' if slices else ""
    )
    lines = "cluster <b>@cluster</b>, posterior @posterior{0.000}<br>" + (
        "true class <b>@class</b><br>" if true else ""
    )
    under = f'<div style="padding:4px 2px 0">{lines}row @row</div>'
    style = f"font:13px {plots.FONT.replace(chr(39), '')};color:{plots.INK};max-width:330px"
    plot.add_tools(
        HoverTool(
            tooltips=f'<div style="{style}">{picture}{under}</div>',
            renderers=[points],
            limit=1,
            visible=False,
        )
    )
    return plot


def _legend(labels: np.ndarray | None, names: tuple[str, ...]) -> dict[int, str]:
    if labels is None:
        return {}
    present = [int(label) for label in np.unique(labels)]
    return {
        label: names[label] if label >= 0 else "none"
        for label in sorted(present, key=lambda i: (i < 0, i))
    }
