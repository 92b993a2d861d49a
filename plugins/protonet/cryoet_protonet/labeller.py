"""Label volumes by the nearest prototype, or as "none of these" where all are far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.support.provenance import fingerprint
from cryoet_protonet.attention import Attention
from cryoet_protonet.losses import adapted_logits
from cryoet_protonet.scales import Scales, gaussian_logits, member_distances, temperature
from cryoet_protonet.space import Space

PRIOR = 10.0
"""How many support volumes the training classes' own distances count for when the threshold is set.
"""
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Support:
    """Labelled examples, and which volumes they are.

    Attributes
    ----------
    names : tuple[str, ...]
        Names of the classes.
    points : Tensor
        Embeddings (m, d).
    classes : Tensor
        Index into names (m,).
    codes : np.ndarray
        Split codes (m,) int8.
    files : tuple[str, ...]
        Checksums of the files.
    file : np.ndarray
        Index of each example's file (m,).
    row : np.ndarray
        Row of each example in its file (m,).
    """

    names: tuple[str, ...]
    points: Tensor
    classes: Tensor
    codes: np.ndarray
    files: tuple[str, ...]
    file: np.ndarray
    row: np.ndarray

    @classmethod
    def of(
        cls, data: Any, points: Tensor, names: list[str], codes: np.ndarray | None = None
    ) -> Support:
        """Take the volumes of ``data`` that are of one of the named classes.

        Parameters
        ----------
        data : Any
            Subtomograms, all of one box size.
        points : Tensor
            Embeddings (n, d) of all volumes.
        names : list[str]
            Names of the classes to take.
        codes : np.ndarray | None, optional
            Split codes (n,) of all volumes; None for 2 throughout.
        """
        numbers = np.full(len(data.class_names) + 1, -1)
        numbers[[list(data.class_names).index(name) for name in names]] = np.arange(len(names))
        classes = numbers[data.labels]
        rows = np.flatnonzero(classes >= 0)
        files = tuple(_digest(path) for path in data.paths)
        codes = np.full(len(data), 2, dtype=np.int8) if codes is None else codes
        chosen = torch.from_numpy(rows)
        return cls(
            tuple(names),
            points[chosen.to(points.device)],
            torch.from_numpy(classes[rows]).to(points.device),
            codes[rows],
            files,
            data.source_file[rows],
            data.source_row[rows],
        )

    @property
    def counts(self) -> Tensor:
        """Number of examples of each class (k,)."""
        return torch.bincount(self.classes, minlength=len(self.names))

    @property
    def centres(self) -> Tensor:
        """Prototypes (k, d): the means of the classes."""
        sums = self.points.new_zeros(len(self.names), self.points.shape[1]).index_add_(
            0, self.classes, self.points
        )
        return sums / self.counts[:, None]

    def find(self, data: Any) -> np.ndarray:
        """Return which example each volume of ``data`` is (n,), -1 for none.

        An example is known by the same row of a file with the same content.
        """
        known = {digest: number for number, digest in enumerate(self.files)}
        numbers = np.array([known.get(_digest(path), -1) for path in data.paths])[data.source_file]
        order = np.lexsort((self.row, self.file))
        stride = int(max(self.row.max(initial=0), data.source_row.max(initial=0))) + 1
        keys = self.file[order].astype(np.int64) * stride + self.row[order]
        wanted = numbers * stride + data.source_row
        place = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
        hit = (numbers >= 0) & (keys[place] == wanted)
        return np.where(hit, order[place], -1)


class ProtoLabeller:
    """Label by the prototypes of labelled examples.

    A volume that is an example itself is compared with the prototype that the others of its class
    make. ``extra`` has the ``distance`` to the nearest prototype, 1 for a typical member, and for
    the run's own volumes the ``split``.

    Parameters
    ----------
    space : Space
        The embedding.
    support : Support
        Labelled examples.
    scales : Scales
        What the training classes say of distances.
    reject : float
        Fraction of members that may be called none of these.
    facts : dict[str, Any]
        Box size, tilt range, tilt axis and record of the encoder.
    attention : Attention | None, optional
        Attention block of ProtoNet-CE; None without a second stage.
    """

    def __init__(
        self,
        space: Space,
        support: Support,
        scales: Scales,
        reject: float,
        facts: dict[str, Any],
        attention: Attention | None = None,
    ) -> None:
        self.space, self.support, self.scales = space, support, scales
        self.reject, self.facts, self.attention = reject, facts, attention
        self.classes = support.names
        self.threshold = self._threshold()
        self.temperature = temperature(support.centres, support.counts, scales.variance)

    def with_support(self, support: Any, run: Run) -> ProtoLabeller:
        """Return a labeller with the prototypes and the threshold of other labelled examples."""
        self._check(support)
        names = [name for i, name in enumerate(support.class_names) if (support.labels == i).any()]
        if not names:
            raise UserError(
                f"`support` {support.paths[0]}: has no class labels; expected one to five labelled "
                "examples of each"
            )
        found = Support.of(support, self.space.points(run.volumes(support), run), names)
        return ProtoLabeller(
            self.space, found, self.scales, self.reject, self.facts, self.attention
        )

    def label(self, data: Any, run: Run) -> Labels:
        """Label subtomograms."""
        self._check(data)
        points = self.space.points(run.volumes(data), run)
        own = torch.from_numpy(self.support.find(data)).to(points.device)
        size = max(1, _CHUNK // (len(self.classes) * points.shape[1]))
        parts = [
            compared(self.support, *pair, self.scales.variance, self.attention)
            for pair in zip(points.split(size), own.split(size), strict=True)
        ]
        relative, logits = (torch.cat(list(part)) for part in zip(*parts, strict=True))
        shares = (logits / self.temperature).softmax(1)
        labels, distance = shares.argmax(1), relative.amin(1)
        if self.reject > 0:
            labels = torch.where(distance > self.threshold, torch.full_like(labels, -1), labels)
        extra = {"distance": distance.float().cpu().numpy()}
        if (own >= 0).any():
            known = own.cpu().numpy()
            extra["split"] = np.where(known >= 0, self.support.codes[known], np.int8(2)).astype(
                np.int8
            )
        return Labels(
            labels.cpu().numpy(),
            shares.float().cpu().numpy(),
            self.classes,
            points.float().cpu().numpy(),
            extra,
        )

    def _threshold(self) -> float:
        """Return the distance beyond which a volume is none of these.

        It is the (1 - reject) quantile of members' distances: those of held-out volumes of the
        training classes, which count for ``PRIOR`` volumes, and, where a class has several
        examples, those of each from the others. Of these there are few, so the quantile is that of
        conformal prediction (Vovk et al. 2005): the new volume counts as one more, beyond all of
        them. It is the largest distance at most.
        """
        found = self.scales.members
        weights, unseen = torch.full((len(found),), PRIOR / max(len(found), 1)), 0.0
        relative = (
            (member_distances(self.support.points, self.support.classes) / self.scales.variance)
            .float()
            .cpu()
        )
        if len(relative):
            found, weights = (
                torch.cat([found, relative]),
                torch.cat([weights, torch.ones(len(relative))]),
            )
            unseen = 1.0
        if not len(found):
            return float("inf")
        order = found.argsort()
        reached = weights[order].cumsum(0) / (weights.sum() + unseen)
        return float(found[order][int((reached < 1 - self.reject).sum().clamp(max=len(order) - 1))])

    def _check(self, data: Any) -> None:
        if data.box != self.facts["box"]:
            raise UserError(
                f"{data.paths[0]}: subtomograms of {data.box} voxels, but the run was trained on "
                f"{self.facts['box']}; "
                "cut or resample them to the same box and voxel size"
            )


def compared(
    support: Support,
    points: Tensor,
    own: Tensor,
    variance: float,
    attention: Attention | None = None,
) -> tuple[Tensor, Tensor]:
    """Compare points with the prototypes.

    A relative distance is the squared one over what a member's would be: ``variance`` times 1 + 1
    / (number of examples), for the prototype errs too. Logits are those of Gaussian classes with
    that variance in all dimensions.

    Parameters
    ----------
    support : Support
        Labelled examples.
    points : Tensor
        Embeddings (n, d) of the volumes.
    own : Tensor
        Which example each point is (n,), or -1.
    variance : float
        Variance within a class, all dimensions together.
    attention : Attention | None, optional
        Attention block of ProtoNet-CE; None without a second stage.

    Returns
    -------
    tuple[Tensor, Tensor]
        Relative distances (n, k) and logits (n, k), float64.
    """
    around, left, alone = _without_themselves(points, own, support)
    squares = (points[:, None].double() - around.double()).square().sum(-1)
    expected = variance * (1 + 1 / left.clamp(min=1))
    logits = -squares
    if attention is not None:
        with torch.no_grad():
            logits = adapted_logits(points[:, None], around, attention)[0][:, 0].double()
    logits = gaussian_logits(logits, expected, points.shape[1])
    # an only example of its class is compared with the other classes, where there are any
    alone &= ~alone.all(1, keepdim=True)
    return (squares / expected).masked_fill(alone, torch.inf), logits.masked_fill(alone, -torch.inf)


def _without_themselves(
    points: Tensor, own: Tensor, support: Support
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each point the prototypes without it, from how many examples, and where from none.

    All three have the shape (n, k, ...).
    """
    centres, counts = support.centres, support.counts
    n, k = len(points), len(centres)
    mine = torch.zeros(n, k, dtype=torch.bool, device=points.device)
    rows = (own >= 0).nonzero()[:, 0]
    mine[rows, support.classes[own[rows]]] = True
    left = counts.expand(n, k) - mine.long()
    away = (centres[None] - points[:, None]) / left.clamp(min=1)[..., None]
    around = centres[None] + torch.where(mine[..., None], away, torch.zeros_like(away))
    return around, left, left == 0


def _digest(path: Any) -> str:
    return str(fingerprint(path)["sha256_sampled"])
