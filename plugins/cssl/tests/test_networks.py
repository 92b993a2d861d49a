"""The encoders: published sizes, boxes, layouts, what is refused; the learning modules around
them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cryoet_cssl.config import MocoConfig, SimclrConfig, SwavConfig
from cryoet_cssl.losses import info_nce, nt_xent, unit
from cryoet_cssl.networks import cb3d, dsrf3d, rb3d
from cryoet_cssl.objectives import MocoObjective, SimclrObjective, SwavObjective
from cryoet_cssl.optimisers import Lars, optimiser_of
from cryoet_cssl.plan import planned
from torch import Tensor, nn

from cryoet_core.runs.encoders import build_encoder
from cryoet_core.runs.training_state import optimiser_tensors, restore_optimiser
from cryoet_core.support.errors import UserError

OPTIONS = {"projection": 8}


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_rb3d_has_the_published_size_with_either_head() -> None:
    assert size(rb3d(32)) == 115_904
    dense = 32 * 8**3 * 1024 + 1024 + 1024**2 + 1024
    assert size(rb3d(16, head="dense")) == 115_904 + dense


@pytest.mark.parametrize("box", [28, 32, 40])
def test_rb3d_takes_any_box(box: int) -> None:
    network = rb3d(box)
    with torch.no_grad():
        assert network(torch.zeros(2, 1, box, box, box)).shape == (2, network.dim)
    network.load_state_dict(rb3d(32).state_dict())  # the same weights for all


def test_dsrf3d_and_cb3d() -> None:
    network = dsrf3d(16)
    assert size(network.blocks) == 858_400
    volumes = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        assert network.eval()(volumes).shape == (2, 1024)
        large = cb3d(16).eval()
        assert large(volumes).shape == (2, large.dim) == (2, 4096)
    seen: list[Tensor] = []
    network.last_block.register_forward_hook(lambda *given: seen.append(given[2]))
    network(volumes)
    assert seen[0].shape == (2, 128, 4, 4, 4)


def test_by_name_for_other_plugins() -> None:
    network = build_encoder("cssl.rb3d", 12, head="pool")
    assert network.dim == 256
    assert network.stem.weight.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cb3d(15), "cssl.cb3d: subtomograms of 15 voxels; expected 16"),
        (lambda: dsrf3d(7), "expected 8"),
        (lambda: rb3d(3), "expected 4"),
        (lambda: rb3d(16, head="conv"), "expected pool or dense"),
    ],
)
def test_what_they_cannot_take(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


# ---- objectives


def views(n: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 8, 8, 8, generator=generator), torch.randn(
        n, 1, 8, 8, 8, generator=generator
    )


def moco(**options: Any) -> MocoObjective:
    torch.manual_seed(0)
    defaults = {"queue": 256, "momentum": 0.99, "ramp": False}
    return MocoObjective(
        rb3d(8), MocoConfig.from_layers("fast", {}, OPTIONS | defaults | options), lambda rows: rows
    )


def swav(**options: Any) -> SwavObjective:
    torch.manual_seed(0)
    defaults = {"prototypes": 5, "queue": 6, "freeze": 0, "warm_up": 0.0}
    return SwavObjective(
        rb3d(8), SwavConfig.from_layers("fast", {}, OPTIONS | defaults | options), lambda rows: rows
    )


def stepped(objective: nn.Module, rate: float = 0.1) -> None:
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=rate)
    objective(*views())[0].backward()
    objective.before_step()
    optimiser.step()
    objective.after_step()


@pytest.mark.parametrize(("momentum", "follows"), [(1.0, 0.0), (0.0, 1.0), (0.75, 0.25)])
def test_the_key_network_follows_by_its_momentum(momentum: float, follows: float) -> None:
    objective = moco(momentum=momentum)
    before = objective.encoder.stem.weight.detach().clone()
    head = objective.projector[0].weight.detach().clone()
    stepped(objective)
    for old, query, key in (
        (before, objective.encoder.stem.weight, objective.key_encoder.stem.weight),
        (head, objective.projector[0].weight, objective.key_projector[0].weight),
    ):
        assert (query - old).abs().max() > 1e-6
        torch.testing.assert_close(key, old + follows * (query.detach() - old))
        assert key.grad is None


def test_the_momentum_grows_and_the_queue_counts_late() -> None:
    objective = moco(momentum=0.8, ramp=True, queue=6)
    first, second = (
        unit(torch.randn(4, 8, generator=torch.Generator().manual_seed(s))) for s in (0, 1)
    )
    found = []
    for done in (0.0, 0.5, 0.59, 0.6, 1.0):
        objective.done = done
        found.append(
            (round(objective.momentum, 3), round(float(objective._compared(first, second)[0]), 5))
        )
    assert [m for m, _ in found][:2] == [0.0, 0.4]
    assert found[-1][0] == pytest.approx(0.8)
    losses = [loss for _, loss in found]
    assert losses[0] == losses[2] < losses[3] == losses[4]
    torch.testing.assert_close(losses[0], round(float(info_nce_of_rows(first, second)), 5))


def info_nce_of_rows(queries: Tensor, keys: Tensor) -> Tensor:
    """Each query's own key among the keys of its batch, in float64, as the equation is written."""
    shares = torch.exp(queries.double() @ keys.double().T / 0.2)
    return -(shares.diag() / shares.sum(1)).log().mean()


def test_symmetric_moco_is_the_mean_over_both_views() -> None:
    objective = moco(queue=6, projection_norm=False)
    first, second = views()
    loss, _ = objective(first, second)
    with torch.no_grad():
        one, two = (
            unit(objective.projector(objective.encoder(view))).double() for view in (first, second)
        )
    queue = moco(queue=6, projection_norm=False).queue.double()  # before the batch came in
    total = torch.zeros((), dtype=torch.float64)
    for queries, keys in ((one, two), (two, one)):  # the key network still equals the query network
        shares = torch.exp(queries @ torch.cat([keys, queue]).T / 0.2)
        total -= (shares[range(4), range(4)] / shares.sum(1)).log().mean() / 2
    torch.testing.assert_close(loss.double(), total, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(objective.queue[:4].double(), two, rtol=1e-5, atol=1e-6)


def test_the_preset_paper_is_one_sided_with_the_queue_alone() -> None:
    torch.manual_seed(0)
    config = MocoConfig.from_layers("paper", {}, OPTIONS)
    objective = MocoObjective(rb3d(8), config, lambda rows: rows)
    queue = objective.queue.clone()
    first, second = views()
    loss, _ = objective(first, second)
    with torch.no_grad():
        one, two = (unit(objective.projector(objective.encoder(view))) for view in (first, second))
    torch.testing.assert_close(loss, info_nce(one, two, queue, 0.2))
    assert objective.momentum == 0.999
    assert len(queue) == 128


@pytest.mark.parametrize(
    ("cubes", "epochs", "batch", "queue", "momentum"),
    [(3000, 200, 16, 750, 0.9989), (300, 30, 32, 75, 0.8519)],
)
def test_open_options_follow_the_data_and_the_steps(
    cubes: int, epochs: int, batch: int, queue: int, momentum: float
) -> None:
    config = MocoConfig.from_layers("fast", {}, {"epochs": epochs, "batch_size": batch})
    found, notes = planned(config, cubes)
    assert (found.queue, found.momentum) == (queue, momentum)
    assert f"for {cubes} subtomograms" in notes[0]
    given, silent = planned(MocoConfig.from_layers("paper"), cubes)
    assert (given.queue, given.momentum, silent) == (128, 0.999, [])
    assert planned(SimclrConfig.from_layers("fast"), cubes)[1] == []


def test_few_cubes_or_steps_still_give_usable_numbers() -> None:
    found, _ = planned(MocoConfig.from_layers("fast", {}, {"epochs": 1}), 3)
    assert (found.queue, found.momentum) == (1, 0.0)


def test_buffers_of_the_key_network_follow_too() -> None:
    objective = moco(projection_norm=True)
    stepped(objective)
    torch.testing.assert_close(
        objective.key_projector[1].running_mean, objective.projector[1].running_mean
    )


def test_the_queue_holds_the_last_keys_in_order_and_wraps() -> None:
    objective = moco(queue=6)
    rows = torch.arange(16.0)[:, None].expand(16, 8)
    for start in range(0, 16, 4):  # 4 does not divide 6
        objective.enqueue(rows[start : start + 4])
    assert int(objective.place) == 16 % 6
    order = (int(objective.place) + torch.arange(6)) % 6
    torch.testing.assert_close(objective.queue[order], rows[-6:])
    objective.enqueue(rows)  # a batch larger than the queue
    order = (int(objective.place) + torch.arange(6)) % 6
    torch.testing.assert_close(objective.queue[order], rows[-6:])


def test_the_first_queue_is_of_unit_vectors() -> None:
    torch.testing.assert_close(moco().queue.norm(dim=1), torch.ones(256))


def test_prototypes_stay_on_the_sphere_and_are_frozen_at_first() -> None:
    objective = swav(freeze=1)
    first = objective.prototypes.detach().clone()
    stepped(objective)
    torch.testing.assert_close(objective.prototypes.detach(), first)
    stepped(objective)
    assert (objective.prototypes - first).abs().max() > 1e-5
    torch.testing.assert_close(objective.prototypes.norm(dim=1), torch.ones(5))


def test_the_queue_of_swav_is_used_once_full() -> None:
    objective = swav(queue=6, freeze=9)
    vectors = torch.nn.functional.normalize(torch.randn(4, 8), dim=1)
    alone = objective._codes(vectors, objective.queue[0])
    stepped(objective)  # 4 of 6
    torch.testing.assert_close(objective._codes(vectors, objective.queue[0]), alone)
    stepped(objective)
    assert (objective._codes(vectors, objective.queue[0]) - alone).abs().max() > 1e-3


def test_swav_first_tells_cubes_apart_then_starts_prototypes_as_cubes() -> None:
    objective = swav(warm_up=0.5, freeze=1, prototypes=5, projection_norm=False)
    random = objective.prototypes.detach().clone()
    first, second = views()
    loss, _ = objective(first, second)
    with torch.no_grad():
        vectors = objective.projected(torch.cat([first, second])).chunk(2)
    torch.testing.assert_close(loss, nt_xent(*vectors, 0.2))
    stepped(objective)  # the queue has 6 of the 8 vectors now
    torch.testing.assert_close(objective.prototypes.detach(), random)
    assert int(objective.steps) == 0
    objective.done = 0.5
    earlier = objective.queue[0].clone()
    with torch.no_grad():
        newest = objective.projected(torch.cat([first, second])).chunk(2)[0]
    stepped(objective)  # frozen, so they still are where they started
    torch.testing.assert_close(objective.prototypes.detach(), torch.cat([newest, earlier])[:5])
    kept = objective.prototypes.detach().clone()
    stepped(objective)
    assert (objective.prototypes - kept).abs().max() > 1e-5  # neither frozen nor started again


def test_simclr_finds_partners_that_are_equal() -> None:
    torch.manual_seed(0)
    objective = SimclrObjective(
        rb3d(8), SimclrConfig.from_layers("fast", {}, OPTIONS), lambda rows: rows
    )
    first, other = views()
    assert objective(first, first)[1] == 1
    assert objective(first, first)[0] < objective(first, other)[0]


# ---- optimisers


def test_lars_by_hand() -> None:
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([1.0]))
    optimiser = Lars([weight, bias], lr=0.5, weight_decay=0.1, clip=False)
    weight.grad, bias.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([2.0])
    optimiser.step()
    rate = 1e-3 * 5 / (2 + 0.1 * 5)
    torch.testing.assert_close(
        weight.detach(), torch.tensor([[3 - 0.5 * rate * 0.3, 4 - 0.5 * rate * 2.4]])
    )
    torch.testing.assert_close(bias.detach(), torch.tensor([0.0]))


def test_larc_never_steps_further_than_plain_sgd() -> None:
    weight = nn.Parameter(torch.tensor([[300.0, 400.0]]))
    optimiser = Lars([weight], lr=1e-4, weight_decay=0.0, clip=True)
    weight.grad = torch.tensor([[0.0, 1e-3]])
    optimiser.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[300.0, 400.0 - 1e-4 * 1e-3]]))


@pytest.mark.parametrize("name", ["adam", "sgd", "lars"])
def test_the_state_of_an_optimiser_survives_a_checkpoint(name: str) -> None:
    def made() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(1)
        layer = nn.Linear(3, 2)
        return layer, optimiser_of(name, layer.parameters(), 0.1, 0.01)

    def step(layer: nn.Linear, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()

    layer, optimiser = made()
    step(layer, optimiser)
    kept, weights = (
        optimiser_tensors(optimiser),
        {k: v.clone() for k, v in layer.state_dict().items()},
    )
    kept = {key: value.clone() for key, value in kept.items()}
    step(layer, optimiser)
    again, fresh = made()
    again.load_state_dict(weights)
    restore_optimiser(fresh, kept)
    step(again, fresh)
    torch.testing.assert_close(again.weight, layer.weight, rtol=0, atol=0)
