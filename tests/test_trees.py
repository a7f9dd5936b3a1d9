"""Trees of inputs, targets and outputs: gradients against autograd, and bad trees in one line."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import snntorch
import snntorch.functional
import torch
import torch.nn.functional as F
from cases import TrueMap, cosine, gradients
from exact_np import OneHot, agreements
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from noisynets import (
    SPSA,
    Backpropagation,
    InputError,
    MeasuredError,
    NodePerturbation,
    Shared,
    SystemRefused,
    WeightPerturbation,
    per_row,
    squared_error,
)
from noisynets.core.batch import stacked
from noisynets.core.noise import Injection
from noisynets.core.trees import mapped
from noisynets.rules.credit.delivery import Gates, given
from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.systems.spiking import Leaky, MeanMembrane, Spiking

B, T = 3, 4
F64 = torch.float64
X, Y = torch.randn(B, 5), torch.randn(B, 3)


class Named(OrderedDict):
    """An ordered dict whose entries are attributes as well."""

    def __getattr__(self, name: str) -> Tensor:
        return self[name]


@dataclass
class Heads:
    """Two outputs."""

    kind: Tensor
    size: Tensor


class Net(nn.Module):
    """A module made of a function, with the layers that it uses."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def _two_inputs(net: Net, one: Tensor, other: Tensor, factor: float) -> Tensor:
    return net.out(torch.tanh(net.a(one) + factor * net.b(other)))


def _masked(net: Net, words: Tensor, mask: Tensor, more: dict[str, Tensor]) -> Tensor:
    return net.out(torch.tanh(net.a(words * mask))).mean(1) + more["bias"]


def _heads(net: Net, x: Tensor) -> Heads:
    h = torch.tanh(net.a(x))
    return Heads(net.out(h), net.b(h))


def _weighted(outputs: Heads, targets: dict[str, Tensor]) -> Tensor:
    kind = F.cross_entropy(outputs.kind, targets["kind"], reduction="none")
    return kind + 0.3 * squared_error(outputs.size, targets["size"])


def _mapping(net: Net, x: Tensor) -> Named:
    h = torch.tanh(net.a(x))
    return Named(logits=net.out(h), hidden=(h, h.square()), none=None)


def _of_words(outputs: Named, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.logits.transpose(1, 2), targets, reduction="none")


def _siamese(net: Net, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(net.out(torch.tanh(net.a(x))) for x in (one, other))


def _distance(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    return (outputs[0] - targets * outputs[1]).square().sum(1)


def _padded(net: Net, packed: PackedSequence) -> Tensor:
    x, lengths = pad_packed_sequence(packed, batch_first=True)
    lasts = [x[:, t] * (lengths > t)[:, None] for t in range(x.shape[1])]
    return net.out(torch.tanh(sum(net.a(last) for last in lasts)))


def _layers(out: int = 3) -> dict[str, nn.Module]:
    return {"a": nn.Linear(5, 4), "b": nn.Linear(5, 4), "out": nn.Linear(4, out)}


def _case(name: str) -> tuple[nn.Module, Callable[..., Tensor], Any, Any]:
    """System, loss, inputs and targets."""
    torch.manual_seed(0)
    x, other, y = torch.randn(B, 5), torch.randn(B, 5), torch.randn(B, 3)
    kinds, words = torch.tensor([0, 2, 1]), torch.randn(B, T, 5)
    alone = {k: v for k, v in _layers().items() if k != "b"}
    if name == "two inputs":
        return Net(_two_inputs, **_layers()), squared_error, (x, other, 0.5), y
    if name == "keywords and a mask":
        mask = (torch.rand(T, 1) > 0.3).double()
        inputs = {"words": words, "more": {"bias": torch.ones(1)}, "mask": mask}
        return Net(_masked, **alone), squared_error, inputs, y
    if name == "two heads":
        layers = {**_layers(), "b": nn.Linear(4, 2)}
        return Net(_heads, **layers), _weighted, x, {"kind": kinds, "size": torch.randn(B, 2)}
    if name == "one loss per position":
        targets = torch.tensor([[0, 1, 2, -100], [2, -100, -100, -100], [1, 1, 0, 2]])
        return Net(_mapping, **alone), _of_words, {"x": words}, targets
    if name == "an encoder twice":
        return Net(_siamese, **alone), _distance, [x, other], torch.randn(B, 1)
    packed = pack_padded_sequence(words, torch.tensor([2, 4, 1]), True, enforce_sorted=False)
    return Net(_padded, **alone), squared_error, packed, y


CASES = [
    "two inputs",
    "keywords and a mask",
    "two heads",
    "one loss per position",
    "an encoder twice",
    "packed",
]


def _double(tree: Any) -> Any:
    def wide(leaf: Any) -> Any:
        floats = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf.double() if floats or isinstance(leaf, PackedSequence) else leaf

    return mapped(tree, wide)


def _truth(net: nn.Module, loss: Callable[..., Tensor], inputs: Any, y: Any) -> dict[str, Tensor]:
    """The gradient by autograd, with plain calls of the system and the loss."""
    net.zero_grad()
    if isinstance(inputs, dict):
        outputs = net(**inputs)
    else:
        packed = isinstance(inputs, Tensor | PackedSequence)
        outputs = net(inputs) if packed else net(*inputs)
    values = loss(outputs, y)
    (values.sum() / B).backward()
    found = gradients(net)
    net.zero_grad()
    return found


def _ready(name: str) -> tuple[nn.Module, Callable[..., Tensor], Any, Any, dict[str, Tensor]]:
    net, loss, inputs, y = _case(name)
    net, inputs, y = net.double(), _double(inputs), _double(y)
    return net, loss, inputs, y, _truth(net, loss, inputs, y)


def _np(net: nn.Module, loss: Callable[..., Tensor], inputs: Any, y: Any, step: float = 1e-5):
    """The gradient by `np`, by parameter, from the exact design."""
    design = OneHot(B)
    NodePerturbation(net, loss, "np", sigma=step, noise=design)(inputs, y)
    design.measured()
    net.zero_grad()
    passes = design.components * design.patterns
    design.amplitude = design.components**0.5
    injection = Injection(step / design.amplitude, design)
    design.start(0)
    estimator = NodePerturbation(net, loss, "np", sigma=injection, resamples=passes, verify=False)
    estimator(inputs, y)
    return gradients(net)


@pytest.mark.parametrize("name", CASES)
def test_np_is_the_gradient(name: str) -> None:
    """By the exact design, every parameter, cosine above 0.999 and the norm within 1 %."""
    net, loss, inputs, y, truth = _ready(name)
    assert [a.name for a in agreements(_np(net, loss, inputs, y), truth) if not a.equal] == []


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> LayerwiseFeedback:
    """Layerwise credit with the true weights, and the true gain of tanh: backpropagation."""

    def gain(self: Gates, unit: Any, record: Any) -> Tensor:
        a = given(record, unit)[0]
        return 2 * a if unit.operation.endswith("pow") else 1 - a.tanh().square()

    monkeypatch.setattr(Gates, "__call__", gain)
    return LayerwiseFeedback(lambda node: TrueMap(node.product))


@pytest.mark.parametrize("name", CASES)
def test_feedback_through_true_maps_is_the_gradient(name: str, exact: LayerwiseFeedback) -> None:
    """The error is a tree: to 1e-9, also where an output is not used by the loss."""
    net, loss, inputs, y, truth = _ready(name)
    NodePerturbation(net, loss, exact, sigma=1e-3)(inputs, y)
    for parameter, found in gradients(net).items():
        torch.testing.assert_close(found, truth[parameter], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", ["share", "learned", "dfa", "frozen"])
@pytest.mark.parametrize("name", ["two heads", "one loss per position"])
def test_other_feedback_starts_from_the_same_errors(name: str, rule: str) -> None:
    """The nodes before the outputs have the exact gradient, in every rule of feedback."""
    net, loss, inputs, y, truth = _ready(name)
    NodePerturbation(net, loss, rule, sigma=1e-3)(inputs, y)
    found = gradients(net)
    top = ["out.weight", "out.bias"] + ["b.weight"] * (name == "two heads")
    for parameter in top:
        torch.testing.assert_close(found[parameter], truth[parameter], rtol=1e-9, atol=1e-9)
    if rule != "frozen":
        assert found["a.weight"].any()


def test_a_head_that_leaves_the_graph_is_refused(exact: LayerwiseFeedback) -> None:
    """One head through NumPy; a constant beside the other is no obstacle."""

    def away(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        return net.a(x), torch.from_numpy(net.a(x).numpy() * 2)

    def both(outputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        return (outputs[0] - y).square().sum(1) + outputs[1].sum(1)

    with pytest.raises(SystemRefused, match="not made of activities alone"):
        NodePerturbation(Net(away, a=nn.Linear(5, 3)), both, exact, verify=False)(X, Y)
    constant = Net(lambda n, x: (n.a(x), torch.ones(len(x), 3)), a=nn.Linear(5, 3))
    NodePerturbation(constant, both, exact)(X, Y)
    assert constant.a.weight.grad.any()


@pytest.mark.parametrize("name", CASES)
def test_backpropagation_and_weight_perturbation_take_trees(name: str) -> None:
    """Backpropagation exactly; wp and spsa: the slope along their noise is that of the loss."""
    net, loss, inputs, y, truth = _ready(name)
    estimate = Backpropagation(net, loss)(inputs, y)
    for parameter, found in gradients(net).items():
        torch.testing.assert_close(found, truth[parameter])
    for kind in (WeightPerturbation, SPSA):
        net.zero_grad()
        again = kind(net, loss, sigma=1e-6, noise="rademacher")(inputs, y)
        assert type(again.output) is type(estimate.output) and again.loss.shape == (B,)
        found = gradients(net)  # ±1 times the slope along it: ‖g‖² = N g·truth
        slope = sum(float((truth[n] * g).sum()) for n, g in found.items())
        square = sum(float(g.square().sum()) for g in found.values())
        assert slope > 0
        assert square == pytest.approx(slope * sum(g.numel() for g in found.values()), rel=1e-3)


def test_a_dense_head_on_a_spiking_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaky integrators over 3 steps, tanh and a dense layer: to 1e-9, with the true gains.

    A shift in every step is amplified by (1/T) Σ_t Σ_{k ≤ t} β^k, with T = 3 and β = 0.5.
    """

    def gain(self: Gates, unit: Any, record: Any) -> Tensor:
        a = given(record, unit)[0]
        return torch.full_like(a, (1 + 1.5 + 1.75) / 3) if unit.population else 1 - a.tanh() ** 2

    monkeypatch.setattr(Gates, "__call__", gain)
    torch.manual_seed(0)
    body = Spiking(nn.Sequential(nn.Linear(5, 4)), 3, MeanMembrane(0.5))
    net = Net(lambda n, x: n.out(n.body(x).tanh()), body=body, out=nn.Linear(4, 3)).double()
    x, y = torch.randn(B, 1, 5, dtype=F64), torch.randn(B, 3, dtype=F64)
    truth = _truth(net, squared_error, x, y)
    rule = LayerwiseFeedback(lambda node: TrueMap(node.product))
    estimator = NodePerturbation(net, squared_error, rule, sigma=1e-3)
    estimator(x, y)
    assert estimator.fallbacks == ()
    for parameter, found in gradients(net).items():
        torch.testing.assert_close(found, truth[parameter], rtol=1e-9, atol=1e-9)


def test_measured_gates_teach_a_spiking_body_below_a_dense_head() -> None:
    """True maps, 60 pairs of 100: the body's credit agrees with the surrogate's, cosine > 0.5."""
    torch.manual_seed(0)
    body = Spiking(nn.Sequential(nn.Linear(5, 20), Leaky(0.9), nn.Linear(20, 8)), 5)
    net = Net(lambda n, x: n.out(n.body(x).relu()), body=body, out=nn.Linear(8, 3))
    rule = LayerwiseFeedback(lambda node: TrueMap(node.product))
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.1)
    for _ in range(60):
        net.zero_grad()
        x, y = torch.randn(100, 1, 5), torch.randn(100, 3)
        estimator(x, y)
    found = gradients(net)
    net.zero_grad()
    squared_error(net(x), y).mean().backward()
    truth = gradients(net)
    assert cosine(found["body.network.2.weight"], truth["body.network.2.weight"]) > 0.9
    assert cosine(found["body.network.0.weight"], truth["body.network.0.weight"]) > 0.5


def test_two_trials_in_one_pass_are_refused() -> None:
    body = Spiking(nn.Sequential(nn.Linear(5, 4)), 2)
    net = Net(lambda n, x: n.out(n.body(x) - n.body(-x)), body=body, out=nn.Linear(4, 3))
    x, y = torch.randn(B, 1, 5), torch.randn(B, 3)
    with pytest.raises(SystemRefused, match="Spiking: runs two trials in one pass"):
        NodePerturbation(net, squared_error, verify=False)(x, y)


def _loop(net: Net, x: Tensor) -> Tensor:
    potential, out = net.neuron.init_leaky(), []
    for _ in range(T):
        _, potential = net.neuron(net.out(torch.tanh(net.a(x))), potential)
        out.append(potential)
    return torch.stack(out, 1)


SF = snntorch.functional
SNNTORCH = {
    "rate": SF.ce_rate_loss(),
    "count": SF.ce_count_loss(),
    "population": SF.ce_count_loss(population_code=True, num_classes=3),
    "error": SF.mse_count_loss(),
}


@pytest.mark.parametrize("name", SNNTORCH)
def test_snntorchs_losses_per_row(name: str) -> None:
    """Of potentials over time: values and gradients are those of snnTorch's mean over the batch."""
    torch.manual_seed(0)
    loss = SNNTORCH[name]
    neuron = snntorch.Leaky(beta=0.9, threshold=100.0)
    net = Net(_loop, a=nn.Linear(5, 4), out=nn.Linear(4, 6), neuron=neuron).double()
    x, y = torch.randn(B, 5, dtype=F64), torch.tensor([0, 2, 1])
    mean = loss(net(x).movedim(1, 0), y)
    try:
        mean.sum().backward()
    except RuntimeError:  # snnTorch's targets are float32, which torch 2.8 does not promote
        pytest.skip("this release of torch has no derivative of this loss in float64")
    truth = gradients(net)
    net.zero_grad()
    rows = per_row(loss, dim=1)
    values = rows(net(x), y)
    assert values.shape == (B,)
    torch.testing.assert_close(values.mean(), mean.sum().to(values.dtype))
    found = _np(net, rows, x, y, step=1e-3)
    assert [a.name for a in agreements(found, truth) if not a.equal] == []


def test_a_loss_with_values_per_row_is_taken_as_it_is() -> None:
    outputs, y = torch.randn(B, T, 3), torch.tensor([0, 2, 1])
    quick = per_row(SF.ce_count_loss(reduction="none"), dim=1)
    slow = per_row(SF.ce_count_loss(), dim=1)
    torch.testing.assert_close(quick(outputs, y), slow(outputs, y))


def test_a_measured_error_over_two_outputs() -> None:
    """One row 20,000 times, an exact quadratic: the error of both heads within 5 %."""
    torch.manual_seed(0)
    e = torch.randn(5)
    noise = torch.randn(20_000, 1, 5)
    y = torch.cat([torch.zeros(1, 1, 5), noise]).flatten(0, 1)
    outputs = {"a": y[:, :2], "name": "text", "b": y[:, 2:].unsqueeze(1)}
    one, other = MeasuredError()(squared_error, outputs, torch.zeros(1, 2), noise @ e)
    assert one.shape == (1, 2) and other.shape == (1, 1, 3)
    assert (torch.cat([one[0], other[0, 0]]) - e).norm() < 0.05 * e.norm()


def _add(net: Net, x: Tensor, mask: Tensor) -> Tensor:
    return net.a(x) * mask


def test_a_mask_stays_shared_when_a_batch_has_its_length() -> None:
    """Of length 4, with batches of 3 and of 4; the first of 4 shows nothing, and is refused."""
    torch.manual_seed(0)
    mask, rows = torch.rand(4), torch.randn(4, 5)
    y = torch.randn(4, 4)
    net = Net(_add, a=nn.Linear(5, 4))
    estimator = NodePerturbation(net, squared_error, "np")
    estimator({"x": rows[:3], "mask": mask}, y[:3])
    assert estimator({"x": rows, "mask": mask}, y).loss.shape == (4,)
    new = NodePerturbation(net, squared_error, "np")
    with pytest.raises(InputError, match=r"inputs\['mask'\] \(8,\).*write Shared"):
        new({"x": rows, "mask": mask}, y)
    new = NodePerturbation(net, squared_error, "np")
    assert new({"x": rows, "mask": Shared(mask)}, y).loss.shape == (4,)


BAD = {
    "no tensor": (({"x": "text"}, Y), "inputs hold no tensor with rows"),
    "no target": ((X, [1, 2, 3]), "targets hold no tensor"),
    "lengths": (((X, X), {"a": Y, "b": Y[:2]}), r"targets\['b'\] has 2 rows where targets\['a'\]"),
    "one input": ((X[:2], (Y,)), r"inputs has 2 rows where targets\[0\] has 3"),
    "no rows": (({"x": X[:2]}, Y), r"no input has the 3 rows of targets: inputs\['x'\] has 2"),
    "NaN": (((X, X * torch.nan), Y), r"inputs\[1\] of rows 0, 1, 2 contain NaN"),
    "arguments": (((X, X, X, X), Y), "the system failed for inputs with the rows of all passes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_trees_are_refused_in_one_line(name: str) -> None:
    (inputs, targets), words = BAD[name]
    net = Net(lambda n, x, other=None, factor=1.0: n.a(x), a=nn.Linear(5, 3))
    with pytest.raises(InputError, match=words) as found:
        NodePerturbation(net, squared_error, "np")(inputs, targets)
    assert "\n" not in str(found.value)


def test_a_number_of_the_whole_batch_gets_no_error() -> None:
    net = Net(lambda n, x: {"y": n.a(x), "aux": n.a(x).mean()}, a=nn.Linear(5, 3))
    with pytest.raises(InputError, match=r"the loss uses outputs\['aux'\], which has no row"):
        NodePerturbation(net, lambda o, y: o["y"].sum(1) + o["aux"], verify=False)(X, Y)


def test_a_loss_of_flattened_positions_is_refused() -> None:
    net = Net(lambda n, x: n.a(x), a=nn.Linear(5, 3))
    with pytest.raises(InputError, match=r"shape \(18,\) for 6 rows"):
        NodePerturbation(net, lambda o, y: (o - y).flatten(), verify=False)(X, Y)


def test_packed_sequences_are_stacked_row_by_row() -> None:
    rows = torch.arange(12.0).view(3, 4)
    lengths = torch.tensor([2, 4, 1])
    packed = pack_padded_sequence(rows, lengths, True, enforce_sorted=False)
    padded, twice = pad_packed_sequence(stacked(packed, 2), batch_first=True)
    keep = torch.arange(4) < lengths[:, None]
    torch.testing.assert_close(padded, torch.cat([rows * keep] * 2))
    assert twice.tolist() == [2, 4, 1, 2, 4, 1]
