"""Programs: what is computed again after a pass equals what would have been traced."""

import copy
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import gradients
from torch import Tensor, nn

from noisynets import NodePerturbation, squared_error
from noisynets.bench.networks import NETWORKS
from noisynets.core.batch import Shared
from noisynets.core.graph.program import LARGEST, Program
from noisynets.core.graph.traces import GROWTH, PATIENCE, Traces
from noisynets.estimators.node_perturbation import surveyed_of

LARGE = ("densenet",)
"""Networks whose pairs make so many numbers that they are traced."""
SMALL = ("squeeze-excite", "vit-tiny", "gru-cells", "glu", "gpt", "mixer", "resnet8-groupnorm")


class Between(nn.Module):
    """Two layers, and any function between them."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.function, self.calls = function, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(self.function(self.first(x)))


def estimator(net: nn.Module, **options) -> NodePerturbation:
    return NodePerturbation(net, squared_error, "mirrored", **options)


def batch(rows: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 6), torch.randn(rows, 3)


def known(estimate: NodePerturbation, x: Tensor | None = None) -> Traces:
    """What is known of passes with such inputs, of `batch` if none are given."""
    return surveyed_of(estimate).traces(batch()[0] if x is None else x)


def programs(estimate: NodePerturbation, rows: int = 8) -> Program | None:
    """The program of passes with so many rows, of pairs of 4 samples if nothing is said."""
    return known(estimate).program(rows)


def taught(net: nn.Module, steps: int = 4, **options) -> NodePerturbation:
    """An estimator that has made a few steps."""
    estimate = estimator(net, **options)
    for _ in range(steps):
        estimate(*batch())
        net.zero_grad()
    return estimate


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_a_program_changes_no_bit(name: str) -> None:
    """Two estimators on the same batches, one of which traces every pass."""
    network = NETWORKS[name]
    torch.manual_seed(0)
    net = network.build()
    other = copy.deepcopy(net)
    with_program, traced = (
        NodePerturbation(n, network.loss, "mirrored", sigma=network.sigma) for n in (net, other)
    )
    stream = torch.Generator().manual_seed(0)
    known(traced, network.batch(stream)[0]).patience = math.inf
    for _ in range(6):
        x, y = network.batch(stream)
        with_program(x, y)
        traced(x, y)
    assert (known(with_program, x).program(2 * len(x)) is None) == (name in LARGE)
    assert known(traced, x).program(2 * len(x)) is None
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


def test_a_forward_with_a_program_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = taught(Between(torch.tanh))
    assert programs(estimate) is not None
    monkeypatch.setattr("noisynets.core.graph.tracer.Tracer.carry_out", None)
    estimate(*batch())


def test_the_first_passes_are_traced() -> None:
    """Two that make the same, and a third in which the program is written."""
    estimate = estimator(Between(torch.tanh))
    found = []
    for _ in range(4):
        estimate(*batch())
        found.append(programs(estimate) is not None)
    assert found == [False, False, True, True]


ARGUMENTS = {
    "infinity": lambda a: torch.softmax(a.masked_fill(torch.arange(8) > 5, -math.inf), 1),
    "dtypes": lambda a: a.to(torch.float64).square().to(torch.float32),
    "lists with None": lambda a: a.unflatten(1, (2, 4))[:, :, [3, 0, 1, 2]].flatten(1),
    "several results": lambda a: torch.cat([a.split(4, 1)[1], a.topk(4).values], 1),
    "dimensions": lambda a: a - a.mean((1,), keepdim=True),
    "words": lambda a: (
        F.gelu(a, approximate="tanh") * F.interpolate(a[:, None], 8, mode="linear")[:, 0]
    ),
    "factories": lambda a: a * torch.linspace(1, 2, 8, dtype=a.dtype, device=a.device),
    "numbers": lambda a: F.pad(a, (1, 0), value=0.5)[:, :-1].clamp(min=-0.5),
    "a constant twice": lambda a: a * torch.ones(8) + torch.ones(8),
}


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_a_program_has_arguments_of_every_kind(name: str) -> None:
    torch.manual_seed(0)
    net = Between(ARGUMENTS[name])
    other = copy.deepcopy(net)
    with_program, traced = estimator(net), estimator(other)
    known(traced).patience = math.inf
    for _ in range(5):
        x, y = batch()
        with_program(x, y)
        traced(x, y)
    assert programs(with_program) is not None and known(with_program).patience == PATIENCE
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


def in_place(a: Tensor) -> Tensor:
    return a.relu_()


@torch.library.custom_op("noisynets_tests::double_", mutates_args=("a",))
def double_(a: Tensor) -> None:
    a.mul_(2)


def in_place_without_result(a: Tensor) -> Tensor:
    double_(a)
    return a


def drawn(a: Tensor) -> Tensor:
    return nn.functional.dropout(a, 0.5)


def large(a: Tensor) -> Tensor:
    wide = a.unsqueeze(-1) * torch.linspace(0, 1, LARGEST)
    return (wide * 2).mean(-1)


@pytest.mark.parametrize("function", [in_place, in_place_without_result, drawn, large])
def test_what_may_not_be_computed_again_has_no_program(function) -> None:
    """A tensor changed in place, random numbers, and what is sooner traced than computed."""
    estimate = taught(Between(function))
    assert programs(estimate) is None
    assert known(estimate).patience == PATIENCE


def test_a_system_that_keeps_a_state_has_no_program() -> None:
    net = NETWORKS["spiking-groupnorm"]
    stream = torch.Generator().manual_seed(0)
    estimate = NodePerturbation(net.build(), net.loss, "mirrored", sigma=net.sigma)
    for _ in range(4):
        x, y = net.batch(stream)
        estimate(x, y)
    assert known(estimate, x).program(2 * len(x)) is None


def later(changed, a: Tensor, *, what: list) -> Tensor:
    """A rectifier, and another function once something is in the list."""
    return changed(a) if what else torch.relu(a)


def halved(a: Tensor) -> Tensor:
    return torch.relu(a) * 0.5


def of_numpy(a: Tensor) -> Tensor:
    return torch.relu(a) * torch.from_numpy(np.full(8, 2.0, dtype=np.float32))


def spoilt(a: Tensor) -> Tensor:
    """The same numbers; but what was recorded of the first layer is overwritten."""
    return a.relu_()


CHANGES = {"number": halved, "array": of_numpy, "in place": spoilt, "nothing": lambda a: a}


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_forward_that_does_another_thing_is_measured_again(name: str) -> None:
    """With the same injected noise: the gradient has the bits of an estimator that traces."""
    torch.manual_seed(0)
    what: list[bool] = []
    net = Between(partial(later, CHANGES[name], what=what))
    other = copy.deepcopy(net)
    other.function = net.function
    with_program, traced = estimator(net), estimator(other)
    known(traced).patience = math.inf
    for step in range(7):
        if step == 5:
            assert programs(with_program) is not None
            what.append(True)
        calls, (x, y) = net.calls, batch()
        with_program(x, y)
        traced(x, y)
        assert step == 0 or net.calls - calls == (2 if step == 5 else 1)
        for one, two in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(one.grad, two.grad)
    assert known(with_program).patience == GROWTH
    assert programs(with_program) is None


def test_a_forward_that_changes_seldom_gets_another_program() -> None:
    """Later each time: a forward that always changes is hardly ever made twice."""
    what: list[bool] = []
    estimate = taught(Between(partial(later, halved, what=what)))
    assert programs(estimate) is not None
    what.append(True)
    found = []
    for _ in range(GROWTH + 4):
        estimate(*batch())
        found.append(programs(estimate) is not None)
    assert not any(found[:GROWTH]) and found[-1]


class Skipping(nn.Module):
    """A layer that is called, or not; what it returns is zero, and so hardly missed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.zero, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        nn.init.zeros_(self.zero.weight)
        nn.init.zeros_(self.zero.bias)
        self.skips = False

    def forward(self, x: Tensor) -> Tensor:
        a = torch.tanh(self.first(x))
        return self.last(a if self.skips else a + self.zero(a))


def test_a_layer_that_is_no_longer_called_is_noticed() -> None:
    net = Skipping()
    estimate = taught(net, sigma=1e-6)
    assert programs(estimate) is not None
    net.skips = True
    estimate(*batch())
    assert known(estimate).patience == GROWTH
    assert net.zero.weight.grad is None or not net.zero.weight.grad.any()


def test_parameters_and_buffers_are_read_as_they_are_now() -> None:
    """An optimiser changes them in place; the program goes on to fit."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
            self.gain = nn.Parameter(torch.ones(8))
            self.register_buffer("shift", torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x)) * self.gain + self.shift)

    net = Scaled()
    estimate = estimator(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(8):
        estimate(*batch())
        optimiser.step()
        optimiser.zero_grad()
        net.shift += step
    assert known(estimate).patience == PATIENCE
    assert net.gain.std() > 0


def test_sequences_of_every_length_have_programs_of_their_own() -> None:
    """As those of every number of rows; none of them is a misfit."""
    gru = NETWORKS["gru-cells"]
    net = gru.build()
    estimate = NodePerturbation(net, gru.loss, "mirrored", sigma=gru.sigma)
    for rows, steps in 4 * [(32, 10), (32, 7), (16, 7), (32, 12)]:
        x, y = torch.randn(rows, steps, 8), torch.randint(10, (rows,))
        estimate(x, y)
        found = known(estimate, x)
        assert found.patience == PATIENCE
    assert found.program(64) is not None
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_a_mask_that_all_rows_share_may_be_another_one_in_every_batch() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.last(torch.softmax(self.first(x) * mask, 1))

    net = Masked()
    other = copy.deepcopy(net)
    with_program, traced = estimator(net), estimator(other)
    for _ in range(5):
        x, y = batch()
        inputs = {"x": x, "mask": Shared(torch.rand(8))}
        known(traced, inputs).patience = math.inf
        with_program(inputs, y)
        traced(inputs, y)
        assert known(with_program, inputs).patience == PATIENCE
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


def test_an_estimator_with_a_program_can_be_copied_and_pickled() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Softmax(1), nn.Linear(8, 3))
    estimate = taught(net)
    assert programs(estimate) is not None
    for copied in (copy.deepcopy(estimate), pickle.loads(pickle.dumps(estimate))):
        assert programs(copied) is None
        copied(*batch())


def test_inference_tensors_are_traced() -> None:
    """Nobody counts their changes."""
    net = Between(torch.tanh)
    estimate = taught(net)
    with torch.inference_mode():
        x, y = batch()
    estimate(x, y)
    assert net.first.weight.grad.isfinite().all()


def test_the_output_of_a_system_may_be_several_tensors() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            h = torch.softmax(self.body(x), 1)
            return {"one": self.one(h), "two": self.two(h) * 2}

    def loss(outputs, y: Tensor) -> Tensor:
        return squared_error(outputs["one"], y) + squared_error(outputs["two"], y)

    torch.manual_seed(0)
    net = Heads()
    estimate = NodePerturbation(net, loss, "mirrored")
    for _ in range(5):
        net.zero_grad()
        x, y = batch()
        estimate(x, y)
    assert programs(estimate) is not None
    found = gradients(net)
    loss(net(x), y).mean().backward()
    true = gradients(net)
    for name in ("one.weight", "two.weight", "two.bias"):
        torch.testing.assert_close(found[name], true[name], rtol=1e-4, atol=1e-6)


def test_a_declared_physical_part_stays_learned_in_a_program() -> None:
    net = Between(nn.Softmax(1))
    with pytest.warns(UserWarning, match="cannot be mirrored"):
        estimate = taught(net, physical=["softmax"])
    assert programs(estimate) is not None
    assert estimate.fallbacks == ("first",)
    assert "learned" in str(estimate.plan)
