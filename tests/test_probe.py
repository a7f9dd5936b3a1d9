"""The probe: what it records, what it leaves behind (nothing), and what it refuses."""

import copy

import pytest
import torch
from torch import nn

from noisynets import (
    AdditiveGaussian,
    Injection,
    InputError,
    Needs,
    NodePerturbation,
    Noisy,
    Probe,
    SystemRefused,
    cross_entropy,
    decorrelate,
    squared_error,
    survey,
)
from noisynets.core.nodes import find_nodes, split_point


def small() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))


def open_probe(net: nn.Module, **settings) -> Probe:
    settings = {"batch": 2, "resamples": 3, "injection": Injection(0.1)} | settings
    return Probe(survey(net), **settings)


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def test_nothing_is_left_after_use_and_after_an_exception() -> None:
    net = small()
    before = {name: set(m.__dict__) for name, m in net.named_modules()}
    with torch.no_grad(), open_probe(net) as probe:
        net(probe.stack(torch.randn(2, 4)))
        assert hooks(net) == 2
    assert hooks(net) == 0
    with pytest.raises(RuntimeError), torch.no_grad(), open_probe(net) as probe:
        net(probe.stack(torch.randn(2, 7)))
    assert hooks(net) == 0
    assert {name: set(m.__dict__) for name, m in net.named_modules()} == before
    assert all(p.grad is None for p in net.parameters())


def test_layers_and_blocks_may_be_shared_in_a_chain() -> None:
    layer = nn.Linear(4, 4)
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    for net in (nn.Sequential(layer, nn.Tanh(), layer), nn.Sequential(block, block)):
        with torch.no_grad(), open_probe(net) as probe:
            output = net(probe.stack(torch.randn(2, 4)))
        assert output.shape == (8, 4) and len(probe.calls) == 2


def test_records_do_not_keep_the_rows_of_the_noisy_passes_alive() -> None:
    net = small()
    with torch.no_grad(), open_probe(net) as probe:
        net(probe.stack(torch.randn(2, 4)))
    assert all(r.x.untyped_storage().nbytes() == r.x.nbytes for r in probe.calls)


def test_outputs_of_several_tensors_are_cut_to_the_reference_pass() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            a = self.layer(x)
            return a, (a.relu(), None)

    estimator = NodePerturbation(Two(), lambda outputs, y: cross_entropy(outputs[0], y), "anp")
    a, (b, nothing) = estimator(torch.randn(2, 4), torch.tensor([0, 1])).output
    assert a.shape == b.shape == (2, 3) and nothing is None


def test_records_what_happened() -> None:
    """δa is measured in the noisy rows; an in-place unit behind the node does not spoil it."""
    net, x = small(), torch.randn(2, 4)
    seen: list[torch.Tensor] = []
    net[1].register_forward_hook(lambda m, args, out: None)
    net[2].register_forward_pre_hook(lambda m, args: seen.append(args[0].clone()))
    with torch.no_grad(), open_probe(net, needs=Needs(noise=True)) as probe:
        net(probe.stack(x))
    first, second = probe.calls
    a = seen[0].unflatten(0, (4, 2))
    torch.testing.assert_close(first.delta, a[1:] - a[0])
    torch.testing.assert_close(first.delta, first.xi, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(first.x, x)
    torch.testing.assert_close(second.x, a[0].relu())
    assert not torch.allclose(second.delta, second.xi, rtol=1e-3)  # upstream noise came through


def test_the_system_computes_the_same_with_and_without_the_probe() -> None:
    net, x = small(), torch.randn(2, 4)
    with torch.no_grad(), open_probe(net, injection=None) as probe:
        stacked = net(probe.stack(x))
    assert torch.equal(stacked, net(probe.stack(x)))


def test_inference_mode_does() -> None:
    """Gradients must be there beforehand: tensors made in that mode are of no use outside."""
    grads = []
    for mode in (torch.inference_mode, torch.no_grad):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        x, y = torch.randn(6, 4), torch.randn(6, 3)
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        with mode():
            NodePerturbation(net, squared_error, "anp", sigma=0.1)(x, y)
        grads.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(a, b) and a.any() for a, b in zip(*grads, strict=True))


def test_an_input_changed_in_place_is_copied_anew() -> None:
    """A tensor that enters again unchanged is copied once, one that was changed every time."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            total = self.layer(x) + self.layer(x)
            x.add_(1)
            return total + self.layer(x)

    torch.manual_seed(0)
    net = Loop()
    probe = Probe(survey(net), batch=3, resamples=1)
    x = torch.randn(3, 2)
    with torch.no_grad(), probe:
        net(probe.stack(x))
    first, second, third = (call.x for call in probe.calls)
    assert first is second and torch.equal(first, x) and torch.equal(third, x + 1)


def test_inputs_by_name_are_recorded() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(input=x)

    net, x = Named(), torch.randn(2, 4)
    with torch.no_grad(), open_probe(net) as probe:
        net(probe.stack(x))
    assert torch.equal(probe.calls[0].x, x)


def test_wrappers_are_one_node_measured_outside_with_x_from_inside() -> None:
    net = decorrelate(nn.Sequential(Noisy(nn.Linear(4, 3), AdditiveGaussian(0.5))))
    net[0].R.mul_(2)
    (node,) = find_nodes(net)
    assert (node.name, node.outlet, type(node.layer)) == ("0", net[0], nn.Linear)
    x = torch.randn(2, 4)
    with torch.no_grad(), open_probe(net, injection=None) as probe:
        net(probe.stack(x))
    (call,) = probe.calls
    torch.testing.assert_close(call.x, 2 * x)
    assert torch.equal(call.raw, x)
    assert 0.1 < call.delta.std() < 2


def test_passes_split_only_where_nothing_else_can_use_the_first_rows() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return x + self.layer(x)

    nested = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 5)), nn.Linear(5, 3))
    quiet = (small(), nested, decorrelate(small()))
    assert all(split_point(net, find_nodes(net)) is not None for net in quiet)

    class Around(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    class Stochastic(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.randn(len(x), 3)

    open_ended = (
        nn.Sequential(Skip()),
        Around(nn.Linear(4, 4)),
        nn.Sequential(nn.ReLU(), nn.Linear(4, 3)),
        nn.Sequential(Noisy(nn.Linear(4, 3), AdditiveGaussian(0.1))),
        nn.Sequential(Stochastic(4, 3)),
        decorrelate(nn.Sequential(Stochastic(4, 3))),
        nn.Sequential(),
    )
    for net in open_ended:
        assert split_point(net, find_nodes(net)) is None


def test_a_batch_that_is_not_the_first_dimension_is_refused() -> None:
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x.unflatten(1, (2, 4)).transpose(0, 1)).mean(0)

    net = TimeFirst()
    with pytest.raises(SystemRefused, match=r"'layer'.*2 rows.*first dimension"):
        NodePerturbation(net, cross_entropy, "anp")(
            torch.randn(5, 8), torch.zeros(5, dtype=torch.long)
        )


def test_wrapped_outlets_may_keep_their_output() -> None:
    """Noise goes into a copy where an outlet might hand out a tensor of its own."""

    class Memory(nn.Module):
        def forward(self, a):
            self.state = a
            return self.state

    memory = Memory()
    net = nn.Sequential(nn.ReLU(), Noisy(nn.Linear(4, 3), memory))
    x = torch.randn(2, 4)
    with torch.no_grad(), open_probe(net) as probe:
        net(probe.stack(x))
    expected = net[1].layer(x.relu().repeat(4, 1)).detach()
    torch.testing.assert_close(memory.state.detach(), expected)


def test_models_can_be_copied_and_collected_after_use() -> None:
    net = nn.Sequential(Noisy(nn.Linear(4, 3), AdditiveGaussian(0.1, seed=5)))
    estimator = NodePerturbation(net, cross_entropy, "anp", sigma=None)
    estimator(torch.randn(2, 4), torch.tensor([0, 1]))
    twin = copy.deepcopy(net)
    x = torch.randn(2, 4)
    assert torch.equal(net(x), twin(x))


# Older releases of torch warn that the graph breaks where a generator is made, newer ones of
# Python 3.13.0.
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace:UserWarning")
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize("what", ["system", "units"])
def test_compiled_modules_are_systems_like_any_other(what: str) -> None:
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        if compiled and what == "units":
            net[1] = torch.compile(net[1], backend="eager")
        whole = compiled and what == "system"
        system = torch.compile(net, backend="eager") if whole else net
        estimator = NodePerturbation(system, squared_error, "anp", sigma=0.1)
        for _ in range(2):
            estimator(torch.ones(6, 4), torch.zeros(6, 3))
        found.append([p.grad for p in net.parameters()])
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain)
    torch.compiler.reset()


def test_empty_blocks_do_not_part_a_layer_from_its_effect() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Sequential(), AdditiveGaussian(0.5), nn.Linear(2, 2))
    assert [node.name for node in find_nodes(net)] == ["2", "3"]


def test_a_probe_works_where_gradients_are_on() -> None:
    net = small()
    with open_probe(net) as probe:
        output = net(probe.stack(torch.randn(2, 4)))
    output.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_noise_of_another_shape_is_refused() -> None:
    odd = Injection(0.1, lambda shape, like, generator: torch.ones(shape[1:]))
    with pytest.raises(InputError, match="not the shape asked for"), torch.no_grad():
        with open_probe(net := small(), injection=odd) as probe:
            net(probe.stack(torch.randn(2, 4)))
