"""NIR graphs: against plain loops of NIR's equations, snnTorch's exporter and importer, and back.

Most tests need the extra nir; those beside snnTorch nirtorch as well.
"""

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from spikes import lif, over, task
from tiny import run
from torch import Tensor, nn

from noisynets import InputError, NodePerturbation, cross_entropy, decorrelate
from noisynets.cli import main
from noisynets.core.trial import trial
from noisynets.run.train import open_trained
from noisynets.systems.devices import AdditiveGaussian, Noisy
from noisynets.systems.nir import Branches, Delay, Integrator, from_nir, to_nir
from noisynets.systems.spiking import (
    Alpha,
    EscapeRate,
    FirstSpike,
    Lapicque,
    LateResetLeaky,
    Leaky,
    MeanMembrane,
    MeanOutput,
    OneToOne,
    Recurrent,
    SpikeCount,
    Spiking,
    Synaptic,
)
from noisynets.systems.units import Sign, Step

nir = pytest.importorskip("nir")
F64, DT = torch.float64, 1e-4


def ends(*nodes, shape=(3,), out=None):
    """A chain of nodes between an Input and an Output."""
    names = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
    found = [nir.Input(np.array(shape)), *nodes, nir.Output(np.array(out or shape))]
    return nir.NIRGraph(
        dict(zip(names, found, strict=True)),
        list(zip(names, names[1:], strict=False)),
        type_check=False,
    )


def steps_of(system: nn.Module, x: Tensor) -> np.ndarray:
    """Outputs of a network in every step, (T, B, *out), for inputs (T, B, *in)."""
    network = system.network if isinstance(system, Spiking) else system
    with torch.no_grad(), trial(network):
        return torch.stack([network(step) for step in x]).numpy()


def v(*values: float) -> np.ndarray:
    return np.array(values)


def reference(node, x: np.ndarray, dt: float = DT) -> np.ndarray:
    """NIR's equations by forward Euler in float64, one neuron and step at a time."""
    kind, out = type(node).__name__, np.zeros_like(x)
    for b in range(x.shape[1]):
        for n in range(x.shape[2]):
            rest = getattr(node, "v_leak", np.zeros(x.shape[2]))[n]
            potential, current = rest, 0.0
            for t in range(len(x)):
                given = x[t, b, n]
                if kind.startswith("Cuba"):
                    current += dt / node.tau_syn[n] * (node.w_in[n] * given - current)
                    given = current
                if kind in ("I", "IF"):
                    potential += dt * node.r[n] * given
                else:
                    tau = node.tau_mem[n] if kind.startswith("Cuba") else node.tau[n]
                    potential += dt / tau * (rest - potential + node.r[n] * given)
                out[t, b, n] = potential
                if hasattr(node, "v_threshold"):
                    out[t, b, n] = potential > node.v_threshold[n]
                    potential = node.v_reset[n] if out[t, b, n] else potential
    return out


TAU, R, REST = v(1e-3, 4e-4, 1e-4), v(10.0, 3.0, 1.5), v(0.0, -0.2, 0.1)
NODES = {
    "I": lambda: nir.I(v(2e3, 1e3, 1e4)),
    "LI": lambda: nir.LI(TAU, R, REST),
    "CubaLI": lambda: nir.CubaLI(v(3e-4, 3e-4, 1e-4), TAU, R, REST, v(1.0, 2.0, 3.0)),
    "IF": lambda: nir.IF(v(2e3, 1e3, 1e4), v(1.0, 0.5, 1.0)),
    "IF, r dt = 1": lambda: nir.IF(v(1e4, 1e4, 1e4), v(1.0, 0.5, 1.0)),
    "LIF": lambda: nir.LIF(TAU, R, REST, v(1.0, 0.4, 0.9), REST),
    "LIF, r dt = tau": lambda: nir.LIF(TAU, TAU / DT, v(0, 0, 0), v(1.0, 0.4, 0.9)),
    "CubaLIF": lambda: nir.CubaLIF(
        v(3e-4, 3e-4, 1e-4), TAU, R, REST, v(1.0, 0.4, 0.9), REST, v(1.0, 2.0, 3.0)
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_neurons_follow_the_equations_of_nir(name: str) -> None:
    node = NODES[name]()
    x = torch.randn(60, 2, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) + 0.3
    expected = reference(node, x.numpy())
    assert len(np.unique(expected)) > 1
    system = from_nir(ends(node), dtype=F64)
    np.testing.assert_allclose(steps_of(system, x), expected, rtol=1e-9, atol=1e-9)


def test_another_time_step_gives_other_constants() -> None:
    x = torch.randn(40, 1, 3, dtype=F64, generator=torch.Generator().manual_seed(1)) + 0.5
    for dt in (1e-5, 5e-5):
        found = steps_of(from_nir(ends(NODES["LIF"]()), dt=dt, dtype=F64), x)
        np.testing.assert_array_equal(found, reference(NODES["LIF"](), x.numpy(), dt))


def test_layers_follow_the_equations_of_nir() -> None:
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(2, 2, 6, 6)))
    w, b = random.normal(size=(4, 2, 3, 3)), random.normal(size=4)
    graph = ends(
        nir.Conv2d((6, 6), w, (1, 1), (1, 1), (1, 1), 1, b),
        nir.SumPool2d(v(2, 2).astype(int), v(2, 2).astype(int), v(0, 0).astype(int)),
        nir.AvgPool2d(v(3, 3).astype(int), v(1, 1).astype(int), v(0, 0).astype(int)),
        nir.Flatten({"input": np.array([4, 1, 1])}, 0, -1),
        nir.Scale(v(1.0, 2.0, 3.0, 4.0)),
        nir.Affine(random.normal(size=(3, 4)), random.normal(size=3)),
        nir.Linear(random.normal(size=(2, 3))),
        nir.Threshold(v(0.1, -0.3)),
        shape=(2, 6, 6),
        out=(2,),
    )
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    conv = np.zeros((2, 4, 6, 6))
    for i in range(6):
        for j in range(6):
            patch = padded[:, :, i : i + 3, j : j + 3]
            conv[:, :, i, j] = np.einsum("bcij,ocij->bo", patch, w) + b
    pooled = conv.reshape(2, 4, 3, 2, 3, 2).sum((3, 5)).mean((2, 3))
    affine, linear = graph.nodes["n5"], graph.nodes["n6"]
    hidden = pooled * [1, 2, 3, 4] @ affine.weight.T + affine.bias
    expected = (hidden @ linear.weight.T > [0.1, -0.3]).astype(float)
    network = from_nir(graph, dtype=F64)
    assert isinstance(network, nn.Sequential)
    np.testing.assert_array_equal(network(x).detach().numpy(), expected)
    assert 0 < expected.mean() < 1


def test_delays_shift_each_input_by_its_own_steps() -> None:
    x = torch.randn(6, 2, 3)
    found = steps_of(from_nir(ends(nir.Delay(v(0.0, 2e-4, 3e-4)))), x)
    for i, n in enumerate((0, 2, 3)):
        np.testing.assert_array_equal(found[n:, :, i], x[: 6 - n, :, i].numpy())
        assert not found[:n, :, i].any()


def test_branches_and_loops_against_a_plain_loop() -> None:
    random = np.random.default_rng(0)
    a, skip, back, out = (random.normal(size=s) for s in ((4, 3), (2, 3), (4, 4), (2, 4)))
    neurons = nir.LIF(*(np.full(4, c) for c in (1e-3, 10.0, 0.0, 0.7)))
    graph = nir.NIRGraph(
        {
            "input": nir.Input(np.array([3])),
            "a": nir.Linear(a),
            "lif": neurons,
            "back": nir.Linear(back),
            "out": nir.Linear(out),
            "skip": nir.Linear(skip),
            "output": nir.Output(np.array([2])),
        },
        [("input", "a"), ("a", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "out")]
        + [("out", "output"), ("input", "skip"), ("skip", "output")],
    )
    x = torch.from_numpy(random.normal(size=(30, 2, 3)))
    u, s, expected = np.zeros((2, 4)), np.zeros((2, 4)), []
    for step in x.numpy():
        u = 0.9 * u + step @ a.T + s @ back.T
        s = (u > 0.7).astype(float)
        u = u * (1 - s)
        expected.append(s @ out.T + step @ skip.T)
    system = from_nir(graph, dtype=F64)
    assert isinstance(system.network, Branches)
    np.testing.assert_allclose(steps_of(system, x), expected, atol=1e-9)
    again = from_nir(to_nir(system, (3,)), dtype=F64)
    np.testing.assert_allclose(steps_of(again, x), expected, atol=1e-9)
    before = [p.clone() for p in system.parameters()]
    estimator = NodePerturbation(system.float(), cross_entropy, "mirrored", sigma=0.3)
    estimator(x.float().transpose(0, 1).repeat(10, 1, 1), torch.arange(20) % 2)
    assert len(before) == 4 and all(p.grad is not None for p in system.parameters())


NEURONS = {
    "subtract": lambda: Leaky(0.9),
    "zero": lambda: Leaky(0.9, reset="zero"),
    "integrate and fire": lambda: Leaky(1.0, reset="zero"),
    "per neuron": lambda: Leaky(torch.linspace(0.1, 0.9, 6), threshold=torch.rand(6) + 0.1),
    "no reset": lambda: Leaky(torch.rand(6), reset="none"),
    "lapicque": lambda: Lapicque(0.8),
    "lapicque, zero": lambda: Lapicque(
        resistance=2.0, capacitance=5.0, reset="zero", reset_delay=False
    ),
    "synaptic": lambda: Synaptic(0.7, 0.9),
    "synaptic, zero": lambda: Synaptic(0.7, 0.9, reset="zero", reset_delay=False),
}
READOUTS = {
    "membrane": lambda: MeanMembrane(0.9),
    "sum": lambda: MeanMembrane(1.0),
    "count": lambda: SpikeCount(Leaky(0.9)),
    "first": lambda: FirstSpike(Leaky(0.9, reset="zero")),
    "mean": MeanOutput,
}


def reread(graph):
    file = io.BytesIO()
    nir.write(file, graph)
    file.seek(0)
    return nir.read(file)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("neuron", NEURONS)
def test_the_round_trip_gives_equal_outputs(neuron: str, readout: str, recurrent: bool) -> None:
    torch.manual_seed(0)
    hidden: nn.Module = NEURONS[neuron]()
    hidden = Recurrent(hidden, nn.Linear(6, 6)) if recurrent else hidden
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), hidden, nn.Linear(6, 3))
    system = Spiking(network, 10, READOUTS[readout]())
    x = 3 * torch.randn(20, 10, 2, 4)
    again = from_nir(reread(to_nir(system, (2, 4))))
    assert torch.equal(again(x), system(x)) and system(x).unique().numel() > 1
    assert type(again.readout) is type(system.readout) and again.steps == 10
    assert [*again.network.state_dict()] == [*network.state_dict()]


def test_convolutions_and_units_come_back() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, (3, 5), stride=2, padding=1, bias=False), Step(0.1), nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3, padding="same", groups=2), nn.AvgPool2d(2, divisor_override=1),
        nn.Flatten(), nn.Unflatten(1, (4, -1)), nn.Conv1d(4, 2, 1), nn.Flatten(),
    )  # fmt: skip
    with pytest.raises(InputError, match="'6' .Unflatten.: NIR has no equivalent"):
        to_nir(network, (1, 12, 12))
    network = nn.Sequential(*network[:6], nn.Dropout(0.5), nn.LazyLinear(3)).eval()
    x = torch.randn(5, 1, 12, 12)
    expected = network(x)
    assert torch.equal(from_nir(to_nir(network, (1, 12, 12)))(x), expected)
    assert 0 < network[:2](x).mean() < 1
    flat = nn.Sequential(nn.Conv1d(2, 3, 3, stride=2), nn.Flatten(), nn.Linear(12, 2))
    x = torch.randn(5, 2, 9)
    assert torch.equal(from_nir(reread(to_nir(flat, (2, 9))))(x), flat(x))


def test_noise_is_left_out_and_decorrelation_multiplied_in() -> None:
    torch.manual_seed(0)
    plain = Spiking(nn.Sequential(nn.Linear(4, 6), Leaky(0.9), nn.Linear(6, 3)), 5)
    noisy = nn.Sequential(
        Noisy(plain.network[0], AdditiveGaussian(0.5, 0)), Leaky(0.9), plain.network[2]
    )
    x = torch.randn(8, 1, 4)
    assert torch.equal(from_nir(to_nir(Spiking(noisy, 5)))(x), plain(x))
    decorrelated = decorrelate(plain, rate=0.0, demean=True)
    for module in decorrelated.modules():
        if hasattr(module, "R"):
            module.R.add_(0.1 * torch.randn_like(module.R))
            module.mean.normal_()
    again = from_nir(to_nir(decorrelated))
    torch.testing.assert_close(again(x), decorrelated.eval()(x), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(again(x), plain(x), atol=1e-2)


def test_approximate_graphs_have_one_node_per_population() -> None:
    network = nn.Sequential(nn.Linear(4, 6), Leaky(0.9), nn.Linear(6, 5), Synaptic(0.8, 0.9))
    kinds = {n: type(m).__name__ for n, m in to_nir(network, approximate=True).nodes.items()}
    assert kinds["1"] == "LIF" and kinds["3"] == "CubaLIF" and len(kinds) == 6
    assert len(to_nir(network).nodes) == 11


@pytest.mark.parametrize("rule", ["mirrored", "dfa", "anp", "np"])
@pytest.mark.parametrize("kind", ["LIF", "CubaLIF", "Threshold"])
def test_rules_train_what_from_nir_returns(kind: str, rule: str) -> None:
    random = np.random.default_rng(0)
    full = np.full
    node = {
        "LIF": nir.LIF(full(8, 1e-3), full(8, 20.0), full(8, 0.0), full(8, 1.0)),
        "CubaLIF": nir.CubaLIF(
            full(8, 3e-4), full(8, 1e-3), full(8, 10.0), full(8, 0.0), full(8, 1.0), w_in=full(8, 3)
        ),
        "Threshold": nir.Threshold(full(8, 0.2)),
    }[kind]
    graph = ends(
        nir.Affine(random.normal(size=(8, 6)), np.zeros(8)),
        node,
        nir.Delay(full(8, 1e-4)),
        nir.Scale(full(8, 2.0)),
        nir.Linear(random.normal(size=(4, 8))),
        nir.LI(full(4, 1e-3), full(4, 10.0), full(4, 0.0)),
        shape=(6,),
        out=(4,),
    )
    system = from_nir(graph, steps=8)
    estimator = NodePerturbation(system, cross_entropy, over(rule, "trial"), sigma=0.3)
    for seed in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what learned credit is used for
            estimator(*task(40, torch.Generator().manual_seed(seed)))
    assert all(bool(p.grad.any()) for p in system.parameters())


def test_training_begins_where_an_equal_system_would(tmp_path: Path) -> None:
    """Same bits: gradients of a system and of its round trip are equal."""
    torch.manual_seed(0)
    system = lif(6, 10, 4, steps=8)
    x, y = task(30, torch.Generator().manual_seed(0))
    found = []
    for each in (system, from_nir(to_nir(system))):
        NodePerturbation(each, cross_entropy, "mirrored", sigma=0.2, seed=3)(x, y)
        found.append([p.grad for p in each.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def snn_steps(net, x: Tensor, state: bool = False) -> np.ndarray:
    from snntorch import utils

    utils.reset(net)
    out, carried = [], None
    for step in x:
        found = net(step, carried) if state else net(step)
        found, carried = found if state else (found, None)
        out.append(found)
    return torch.stack(out).detach().numpy()


def quietly(function, *args, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **keywords)


@pytest.mark.parametrize("kind", ["leaky", "recurrent", "one to one"])
def test_graphs_of_snntorchs_exporter_give_its_outputs(kind: str) -> None:
    pytest.importorskip("nirtorch")
    import snntorch as snn

    torch.manual_seed(0)
    more = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
    beta, theta = torch.full((5,), 0.9), torch.full((5,), 0.7)
    neurons = {
        "leaky": lambda: snn.Leaky(beta=beta, threshold=theta, **more),
        "recurrent": lambda: snn.RLeaky(beta=0.9, linear_features=5, **more),
        "one to one": lambda: snn.RLeaky(beta=0.9, all_to_all=False, V=torch.rand(5), **more),
    }[kind]()
    last = {n: torch.full((3,), c) for n, c in (("alpha", 0.8), ("beta", 0.7), ("threshold", 1.0))}
    net = nn.Sequential(nn.Linear(4, 5), neurons, nn.Linear(5, 3), snn.Synaptic(**last, **more))
    x = 2 * torch.randn(40, 16, 4)
    export = quietly(__import__, "snntorch.export_nir", fromlist=["x"]).export_to_nir
    graph = quietly(export, net, torch.rand(1, 4), ignore_dims=[0])
    expected = snn_steps(net, x)
    np.testing.assert_array_equal(steps_of(from_nir(graph), x), expected)
    assert 0 < expected.mean() < 1


@pytest.mark.parametrize(
    "neuron",
    [
        lambda: Leaky(0.9, reset="zero"),
        lambda: Lapicque(0.9, reset="zero", reset_delay=False, threshold=0.5),
        lambda: Synaptic(0.8, 0.7, reset="zero", reset_delay=False),
    ],
    ids=["leaky", "lapicque", "synaptic"],
)
def test_snntorchs_importer_computes_our_outputs(neuron, capsys) -> None:
    """Recurrent graphs are left out: its importer leads their input through V, as of its own."""
    pytest.importorskip("nirtorch")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), neuron(), nn.Linear(5, 3))
    x = 2 * torch.randn(40, 16, 4)
    imported = quietly(__import__, "snntorch.import_nir", fromlist=["x"]).import_from_nir
    theirs = quietly(imported, to_nir(network))
    expected = steps_of(network, x)
    np.testing.assert_allclose(snn_steps(theirs, x, state=True), expected, atol=1e-6)
    assert len(np.unique(expected)) > 2


LEAK = (np.full(3, 1e-3), np.full(3, 10.0), np.zeros(3), np.ones(3))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (lambda: nn.Linear(2, 2), "Linear: is no nir.NIRGraph"),
        (lambda: ends(), "no node but its Input and Output"),
        (lambda: ends(nir.LIF(*LEAK, np.full(3, 0.5))), "'n0' .LIF.: v_reset differs"),
        (lambda: ends(nir.LIF(np.full(3, 1e-5), *LEAK[1:])), "'n0' .LIF.: tau down to 1e-05 s"),
        (lambda: ends(nir.LIF(np.full(3, -1.0), *LEAK[1:])), "'n0' .LIF.: tau must be positive"),
        (lambda: ends(nir.LIF(np.full(3, np.nan), *LEAK[1:])), "'n0' .LIF.: contains NaN"),
        (lambda: ends(nir.LIF(*LEAK[:3], np.zeros(3))), "'n0' .LIF.: threshold 0.0 must be pos"),
        (lambda: ends(nir.LIF(LEAK[0], np.zeros(3), *LEAK[2:])), "'n0' .LIF.: r is 0"),
        (lambda: ends(nir.IF(np.full(3, -1.0), np.ones(3))), "'n0' .IF.: r must be positive"),
        (lambda: ends(nir.Delay(np.full(3, 1.5e-4))), "'n0' .Delay.: delays are no whole"),
        (lambda: ends(nir.Delay(np.full(3, -1e-4))), "'n0' .Delay.: delays must not be"),
        (lambda: ends(nir.Delay(np.full(3, 1e3))), "'n0' .Delay.: a delay of 1e.07 steps"),
        (lambda: ends(nir.Linear(np.ones((2, 5)))), "'n0' .Linear.: does not fit its inputs"),
        (lambda: ends(nir.Linear(np.ones((1, 2, 5)))), "'n0' .Linear.: weights of shape"),
        (lambda: ends(nir.Linear(np.full((3, 3), np.inf))), "'n0' .Linear.: contains NaN or inf"),
        (lambda: ends(nir.Affine(np.ones((3, 3)), np.ones(2))), "'n0' .Affine.: a bias of shape"),
    ],
)
def test_graphs_without_an_equivalent_are_refused(graph, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        from_nir(graph())
    assert "\n" not in str(error.value) and "how-to/spiking.md#nir-graphs" in str(error.value)


def wired(edges, **nodes):
    both = {"input": nir.Input(np.array([3])), "output": nir.Output(np.array([3]))}
    return nir.NIRGraph({**both, **nodes}, edges, type_check=False)


def test_edges_without_an_equivalent_are_refused() -> None:
    a, b, way = nir.Scale(np.ones(3)), nir.Scale(np.ones(3)), [("input", "a"), ("a", "output")]
    for graph, words in (
        (wired([*way, ("a", "b"), ("b", "a")], a=a, b=b), "'output', 'a', 'b' are part of a loop"),
        (wired([*way, ("a", "gone")], a=a), "there is no node 'gone'"),
        (wired([*way, way[0]], a=a), "is there twice"),
        (wired([*way, ("a", "b")], a=a, b=b), "'b' .Scale.: this node leads to no other"),
        (wired([*way, ("b", "a")], a=a, b=b), "'b' .Scale.: nothing leads to this node"),
        (wired(way, a=a, i=nir.Input(np.array([3]))), "2 nodes of type Input"),
    ):
        with pytest.raises(InputError, match=words):
            from_nir(graph)
    graph = ends(nir.LIF(*LEAK))
    for change, words in (({"readout": "?"}, "read-out '\\?' is none"), ({"dt": -1.0}, "dt -1.0")):
        graph.metadata = change
        with pytest.raises(InputError, match=words):
            from_nir(graph)
    with pytest.raises(InputError, match="dt nan must be"):
        from_nir(graph, dt=float("nan"))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (lambda: nn.LeakyReLU(), "'1' .LeakyReLU.: NIR has no equivalent: use one of Above"),
        (lambda: Sign(), "'1' .Sign.: NIR has no equivalent"),
        (lambda: nn.MaxPool1d(2), "'1' .MaxPool1d.: NIR has no maximum pooling: use nn.AvgPool2d"),
        (lambda: Alpha(0.9, 0.8), "'1' .Alpha.: NIR has no equivalent"),
        (lambda: Leaky(0.9, firing=EscapeRate(0.1)), "fires by EscapeRate, which NIR has not"),
        (lambda: Leaky(0.9, reset_delay=False), "reset by subtraction in the step of the spike"),
        (lambda: Synaptic(0.5, 0.5, reset="zero"), "use reset_delay=False"),
        (lambda: LateResetLeaky(0.5, reset="zero"), "use reset_delay=False"),
        (lambda: Leaky(torch.tensor([0.5] * 5 + [1.0])), "'1' .Leaky.: beta is 1"),
        (lambda: nn.Linear(5, 2), "'1' .Linear.: takes .5,., and gets .6,."),
        (lambda: nn.GRUCell(6, 6), "'1' .GRUCell.: NIR has no equivalent"),
        (lambda: nn.TransformerEncoderLayer(6, 1), "has a forward of its own"),
        (lambda: Recurrent(Leaky(0.9), nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))), "one Lin"),
    ],
)
def test_modules_without_an_equivalent_are_refused(module, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        to_nir(nn.Sequential(nn.Linear(4, 6), module()))
    assert "\n" not in str(error.value) and "how-to/spiking.md" in str(error.value)


def test_what_is_not_known_of_a_system_is_refused() -> None:
    with pytest.raises(InputError, match="give input_shape"):
        to_nir(nn.Sequential(nn.Flatten(), nn.Linear(4, 6)))
    broken = nn.Linear(2, 2)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(InputError, match="weights contain NaN"):
        to_nir(broken)
    with pytest.raises(InputError, match="dt 0 must be positive"):
        to_nir(nn.Linear(2, 2), dt=0)
    import snntorch

    with pytest.raises(InputError, match="DeltaLeaky.: has no counterpart here .spikes where"):
        to_nir(nn.Sequential(nn.Linear(4, 4), snntorch.DeltaLeaky(beta=0.9, init_hidden=True)))


def test_parts_keep_their_own_constants_per_neuron() -> None:
    unit = Integrator(v_tensor(0.5, 1.0), v_tensor(1.0, 2.0), v_tensor(0.0, 1.0))
    assert unit(torch.ones(1, 2)).tolist() == [[1.0, 3.0]]
    assert unit(torch.ones(1, 2)).tolist() == [[1.5, 5.0]]
    with pytest.raises(InputError, match="-1 steps"):
        Delay(-1)
    assert to_nir(OneToOne(2.0), (3,)).nodes["layer"].scale.tolist() == [2.0] * 3


def v_tensor(*values: float) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(
    "settings",
    [
        {"system": "lif"},
        {"system": "rlif", "neuron": "synaptic"},
        {"system": "lif", "neuron": "lapicque", "reset": "zero", "readout": "count"},
        {"system": "step-mlp", "rule": "anp", "intrinsic_noise": 0.0, "sigma": 0.1},
    ],
    ids=str,
)
def test_a_trained_run_is_exported(settings, tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "run", **settings | {"epochs": 1})
    file = tmp_path / "run.nir"
    main(["export", str(folder.path), str(file), "--to", "nir", "--dt", "0.001"])
    assert "metadata: dt 0.001" in capsys.readouterr().out
    graph = nir.read(file)
    assert graph.metadata["dt"] == 0.001
    system = open_trained(folder).system.eval()
    x = torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x = x.unsqueeze(1) if isinstance(system, Spiking) else x
    with torch.no_grad():
        assert torch.equal(from_nir(graph)(x), system(x))


def test_what_cannot_be_exported_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = run(tmp_path / "run", system="mlp", epochs=1)
    for name, more, words in (
        ("a.nir", [], "'2' (LeakyReLU): NIR has no equivalent"),
        ("a.pt", [], "must end with .nir"),
        ("a.pt", ["--to", "torch", "--dt", "0.1"], "belong to --to nir"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["export", str(folder.path), str(tmp_path / name), "--to", "nir", *more])
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and words in line and not (tmp_path / name).exists()
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(SystemExit):
        main(["export", str(folder.path), str(tmp_path / "a.nir"), "--to", "nir"])
    assert "python -m pip install 'noisynets[nir]'" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"^NIR needs more packages.*\[nir\]'$"):
        to_nir(nn.Linear(2, 2))
