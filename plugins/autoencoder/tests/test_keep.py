"""What ``--keep`` may say."""

from __future__ import annotations

import numpy as np
import pytest
from cryoet_autoencoder.keep import kept_clusters

from cryoet_core.support.errors import UserError

CLUSTERS = [f"cluster{i + 1}" for i in range(9)]
NONE = np.zeros(9, bool)


@pytest.mark.parametrize(
    ("keep", "names", "classes"),
    [
        ("3,7:ribosome", ("ribosome",), {3: 1, 7: 1}),
        ("cluster3", ("particle",), {3: 1}),
        (" 2-4 : a b ; 9:c;1:a b", ("a b", "c"), {2: 1, 3: 1, 4: 1, 9: 2, 1: 1}),
    ],
)
def test_clusters_by_name(keep: str, names: tuple[str, ...], classes: dict[int, int]) -> None:
    kept = kept_clusters(keep, CLUSTERS, NONE)
    assert kept.names == names
    assert {i + 1: int(c) for i, c in enumerate(kept.classes) if c} == classes


def test_auto_takes_what_is_suggested() -> None:
    suggested = np.arange(9) % 4 == 0
    kept = kept_clusters("auto", CLUSTERS, suggested)
    assert kept.names == ("particle",)
    assert kept.classes.tolist() == suggested.astype(int).tolist()


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ("auto", "no cluster looks like a particle"),
        ("", "names no cluster"),
        (";", "names no cluster"),
        ("12:ribosome", "no cluster 12; there are cluster1 to cluster9"),
        ("0", "no cluster 0"),
        ("4-2", "no cluster 4-2"),
        ("3,x:ribosome", "'x' is no cluster"),
        ("3,:ribosome", "'' is no cluster"),
        ("3:a;3:b", "cluster3 is named twice"),
        ("3:background", "expected another name"),
    ],
)
def test_what_cannot_be_meant_gets_one_line(keep: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as found:
        kept_clusters(keep, CLUSTERS, NONE)
    assert "`keep`" in str(found.value)
    assert "\n" not in str(found.value)
