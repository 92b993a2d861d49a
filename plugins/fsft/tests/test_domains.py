"""Classes are matched by name, shots are drawn as asked, and what does not fit gets one clear
line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cryoet_fsft.domains import Domains, match

from cryoet_core.store import open_subtomograms
from cryoet_core.support.errors import UserError

Write = Callable[..., Path]


def matched(
    source: Path, target: Path, shots: int | None = 3, seed: int = 0, needs: bool = True
) -> Domains:
    return match(open_subtomograms(source), open_subtomograms(target), shots, seed, needs)


def test_classes_in_any_order_keep_their_names(write: Write) -> None:
    found = matched(write("s"), write("t", target=True, names=("shell", "ball", "bars")))
    assert found.classes == ("ball", "bars", "shell")
    # row i of the source is class i % 3 of (ball, bars, shell), of the target of (shell, ball,
    # bars)
    assert found.source_labels.tolist() == [0, 1, 2] * 12
    assert found.target_labels.tolist() == [2, 0, 1] * 12
    assert len(found.notes) == 1


def test_missing_and_extra_classes_are_reported_and_left_out(write: Write) -> None:
    found = matched(
        write("s", names=("ball", "bars", "rod")), write("t", names=("bars", "plate", "ball"))
    )
    assert found.classes == ("ball", "bars")
    assert len(found.source_rows) == 24
    assert (found.target_labels >= 0).sum() == 24
    assert "left out: rod" in found.notes[0]
    assert "lacks (12 volumes, taken as unlabelled): plate" in found.notes[1]


def test_shots_are_stratified_by_the_seed_and_not_scored(write: Write) -> None:
    source, target = write("s"), write("t", target=True)
    one, again, other = (matched(source, target, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.split, again.split)
    assert not torch.equal(one.split, other.split)
    assert torch.bincount(one.target_labels[one.shots]).tolist() == [3, 3, 3]
    assert not set(one.shots.tolist()) & set(one.scored.tolist())
    assert len(one.scored) == 27


def test_unlabelled_volumes_are_neither_shots_nor_scored(write: Write) -> None:
    some = np.arange(36) < 15
    found = matched(write("s"), write("t", target=True, labels=some))
    assert len(found.shots) == 9
    assert len(found.scored) == 6
    assert int((found.split == 2).sum()) == 27


def test_the_files_split_gives_the_shots(write: Write) -> None:
    split = np.repeat([0, 1, 2], 12)
    target = write("t", target=True, split=split)
    found = matched(write("s"), target, shots=None)
    assert found.shots.tolist() == [*range(0, 12, 3), *range(1, 12, 3), *range(2, 12, 3)]
    assert found.held_out.tolist() == list(range(12, 24))
    assert found.scored.tolist() == list(range(24, 36))
    fewer = matched(write("s2"), target, shots=2)
    assert len(fewer.shots) == 6
    assert set(fewer.shots.tolist()) < set(range(12))
    assert fewer.scored.tolist() == list(range(24, 36))


def test_holding_a_shot_out_keeps_one_of_each_class(write: Write) -> None:
    found = matched(write("s"), write("t", target=True), shots=2).without_last_shot()
    assert torch.bincount(found.target_labels[found.shots]).tolist() == [1, 1, 1]
    assert len(found.held_out) == 3
    assert not len(
        matched(write("s2"), write("t2", target=True), shots=1).without_last_shot().held_out
    )


def test_a_target_without_labels_serves_methods_that_need_none(write: Write) -> None:
    nothing = np.zeros(36, bool)
    source, target = write("s"), write("t", target=True, labels=nothing)
    found = matched(source, target, needs=False)
    assert found.classes == ("ball", "bars", "shell")
    assert not len(found.scored)
    with pytest.raises(
        UserError, match=r"`target` .*t\.h5: has no class labels; .* use deep_coral"
    ):
        matched(source, target)


@pytest.mark.parametrize(
    ("source", "target", "shots", "expected"),
    [
        (
            {},
            {},
            13,
            r"`shots` 13: class 'ball' has 12 labelled volumes of .*t\.h5; .* lower `shots` or "
            r"label more",
        ),
        (
            {"names": ("ball", "rod")},
            {},
            3,
            r"share one class only \(ball\); expected two classes or more",
        ),
        (
            {"names": ("rod", "plate")},
            {},
            3,
            r"share no class; expected two .* source: plate, rod; target: ball",
        ),
        (
            {},
            {"box": 18},
            3,
            r"t\.h5: boxes of 18 voxels, but .*s\.h5 has 16; expected equal boxes",
        ),
        (
            {},
            {"voxel_size": 11.0},
            3,
            r"t\.h5: voxels of 11 Å, but .*s\.h5 has 10 Å; expected equal voxel sizes",
        ),
        ({"per_class": 1}, {}, 3, r"s\.h5: class 'ball' has one volume; expected two or more"),
        ({}, {"per_class": 1}, 2, r"`shots` 2: class 'ball' has 1 labelled volume of .*t\.h5"),
    ],
    ids=[
        "shots",
        "one shared",
        "none shared",
        "box",
        "voxel size",
        "one source volume",
        "one target volume",
    ],
)
def test_what_does_not_fit_gets_one_line(
    write: Write, source: dict[str, object], target: dict[str, object], shots: int, expected: str
) -> None:
    with pytest.raises(UserError, match=expected) as error:
        matched(write("s", **source), write("t", **target), shots)
    assert "\n" not in str(error.value)
