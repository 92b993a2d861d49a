"""k-means, on either route: blobs recovered, inertia that only falls, few distinct points."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from cryoet_autoencoder import kmeans
from cryoet_autoencoder.kmeans import Clusters, batched_kmeans, fit_kmeans
from sklearn.metrics import adjusted_rand_score

ROUTES = {"scikit-learn": 10**9, "batched": 0}


def blobs(n: int = 300, k: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(n) % k
    return 8 * torch.eye(k, 8)[truth] + torch.randn(n, 8, generator=generator), truth


@pytest.mark.parametrize("route", ROUTES)
def test_separated_blobs_in_any_order(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "MANY", ROUTES[route])
    points, truth = blobs()
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(5))
    found = fit_kmeans(points, 6, 5, 0)
    shuffled = fit_kmeans(points[order], 6, 5, 0)
    labels, shares = found.assign(points)
    assert adjusted_rand_score(truth, labels) == 1.0
    assert adjusted_rand_score(labels[order], shuffled.assign(points[order])[0]) == 1.0
    assert found.inertia == pytest.approx(shuffled.inertia, rel=1e-5)
    torch.testing.assert_close(shares.sum(1), torch.ones(300))
    assert torch.equal(shares.argmax(1), labels)


def test_both_routes_end_equally_low(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(400, 4, generator=torch.Generator().manual_seed(2))
    inertias = []
    for many in ROUTES.values():
        monkeypatch.setattr(kmeans, "MANY", many)
        inertias.append(fit_kmeans(points, 8, 10, 0).inertia)
    assert inertias[1] == pytest.approx(inertias[0], rel=0.02)


def test_inertia_never_rises_and_is_that_of_the_centres() -> None:
    points = torch.randn(500, 5, generator=torch.Generator().manual_seed(1))
    centres, history = batched_kmeans(points, 12, 4, torch.Generator().manual_seed(0))
    assert len(history) > 2
    assert all(later <= earlier + 1e-6 * earlier for earlier, later in pairwise(history))
    direct = torch.cdist(points.double(), centres.double()).square().amin(1).sum()
    assert float(direct) == pytest.approx(history[-1], rel=1e-3)


@pytest.mark.parametrize("route", ROUTES)
def test_fewer_distinct_points_than_clusters(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "MANY", ROUTES[route])
    points = torch.eye(3)[torch.arange(20) % 3]
    found = fit_kmeans(points, 10, 3, 0)
    assert len(found.centres) == 3
    assert found.inertia == pytest.approx(0, abs=1e-9)


def test_the_largest_cluster_comes_first_and_ties_go_to_the_first_centre() -> None:
    points = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]])
    found = fit_kmeans(points, 3, 5, 0)
    assert found.assign(points)[0].tolist() == [0, 0, 0, 1, 1, 2]
    tie = Clusters(torch.tensor([[-1.0], [1.0]]), 1.0, 0.0)
    labels, shares = tie.assign(torch.zeros(1, 1))
    assert labels.tolist() == [0]
    assert shares.tolist() == [[0.5, 0.5]]
