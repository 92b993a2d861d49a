"""Picks on the disk: equal to what was saved, replaced whole or not at all, and nothing else taken
for them.
"""

from __future__ import annotations

import numpy as np
import pytest

from cryoet_core.formats.picks.store_file import is_picks, load_picks, save_picks
from cryoet_core.picks.table import Picks, join
from cryoet_core.support import files
from cryoet_core.support.errors import UserError

RANDOM = np.random.default_rng(0)


def some_picks(n=20) -> Picks:
    rotations = RANDOM.normal(size=(n, 3, 3))
    rotations[3] = np.nan
    scores = RANDOM.normal(size=n).astype(np.float32)
    scores[5] = np.nan
    return Picks(
        RANDOM.uniform(0, 1e4, (n, 3)),
        scores,
        RANDOM.integers(-1, 2, n),
        ("ribosome", "Å β"),
        np.array([("TS_01", "b/c", "007")[i % 3] for i in range(n)], dtype=object),
        rotations,
        {
            "group": np.array([f"g{i}" for i in range(n)], dtype=object),
            "a/b. c": np.arange(n),
            "half": np.zeros((n, 2)),
        },
    )


def same(a: Picks, b: Picks) -> None:
    for name in ("positions", "scores", "classes", "tomograms"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype, name
    assert a.class_names == b.class_names
    assert (a.rotations is None) == (b.rotations is None)
    if a.rotations is not None:
        np.testing.assert_array_equal(a.rotations, b.rotations)
    assert list(a.extra) == list(b.extra)
    for name in a.extra:
        np.testing.assert_array_equal(a.extra[name], b.extra[name])
        assert a.extra[name].dtype == b.extra[name].dtype


@pytest.mark.parametrize(
    "picks",
    [
        some_picks(),
        Picks.empty(("a", "b")),
        Picks.of(np.ones((1, 3)), "t"),
        join([some_picks(), Picks.empty()]),
    ],
    ids=["full", "empty", "plain", "joined"],
)
def test_what_is_loaded_is_what_was_saved(picks, tmp_path):
    save_picks(tmp_path / "p.h5", picks)
    same(load_picks(tmp_path / "p.h5"), picks)
    assert is_picks(tmp_path / "p.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["p.h5"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.h5"
    save_picks(path, Picks.of(np.ones((2, 3)), "t"))
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(UserError, match="the disk is full"):
        save_picks(path, some_picks())
    monkeypatch.undo()
    assert len(load_picks(path)) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_no_picks_file_is_refused(tmp_path, tiny_store):
    path = tmp_path / "p.h5"
    with pytest.raises(UserError, match="no such file"):
        load_picks(path)
    with pytest.raises(UserError, match="holds subtomograms; expected picks"):
        load_picks(tiny_store)
    assert not is_picks(tiny_store)
    path.write_text("data_particles")
    assert not is_picks(path)
    with pytest.raises(UserError, match="damaged or no HDF5 file"):
        load_picks(path)
    save_picks(path, some_picks())
    path.write_bytes(path.read_bytes()[:3000])
    assert not is_picks(path)
    with pytest.raises(UserError, match="damaged"):
        load_picks(path)
