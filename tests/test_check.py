"""What is refused, by name and with what to do; and what is not."""

import time
import warnings

import pytest
import torch
from tiny import config
from torch import nn

from noisynets import (
    RULES,
    SPSA,
    AdditiveGaussian,
    Backpropagation,
    InputError,
    NodePerturbation,
    Noisy,
    PositionPerturbation,
    SystemRefused,
    WeightPerturbation,
    check,
    cross_entropy,
    outer,
    squared_error,
)
from noisynets.core.speed import slowdown
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import pairs
from noisynets.run.session import build
from noisynets.systems.devices import PCM

X, Y = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])


class Functional(nn.Module):
    """Uses a layer's weights without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(3, 2)
        self.bypassed = nn.Linear(2, 2)

    def forward(self, x):
        return nn.functional.linear(self.used(x), self.bypassed.weight)


class ScaledLinear(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)
        self.gain = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.LSTM(3, 2)), ["'0'", "LSTM", "noisynets.unfused(model)"]),
        (nn.Sequential(ScaledLinear()), ["'0'", "gain"]),
        (nn.Sequential(nn.LazyLinear(2)), ["'0'", "forward pass"]),
        (nn.Sequential(nn.ReLU()), ["nothing to train"]),
        (
            Noisy(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)), nn.Identity()),
            ["wraps Sequential", "each layer"],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_refuses(net: nn.Module, words: list[str]) -> None:
    with pytest.raises(SystemRefused) as refusal:
        NodePerturbation(net, cross_entropy, "anp")
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_names_every_problem_at_once() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.LSTM(2, 2), nn.GRU(2, 2), nn.RNN(2, 2))
    with pytest.raises(SystemRefused) as refusal:
        check(net)
    assert all(f"'{i}'" in str(refusal.value) for i in (1, 2, 3))


def test_frozen_and_inactive_modules_pass() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5), nn.PReLU())
    net[1].requires_grad_(False).eval()
    net[2].eval()
    net[3].requires_grad_(False)
    assert [node.name for node in check(net)] == ["0"]


def test_frozen_fused_layers_pass() -> None:
    net = nn.ModuleList([nn.LSTM(3, 3).requires_grad_(False), nn.Linear(3, 2)])
    assert [node.name for node in check(net)] == ["1"]


def test_a_layer_inside_and_outside_a_wrapper_is_one_node() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain = nn.Linear(3, 2)
            self.noisy = Noisy(self.plain, AdditiveGaussian(0.1))

        def forward(self, x):
            return self.noisy(x)

    assert [node.name for node in check(Both())] == ["noisy"]


def test_what_is_changed_after_construction_is_checked_again() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 2)).eval()
    net[0].requires_grad_(False)
    estimator = NodePerturbation(net, cross_entropy, "anp")
    estimator(X, Y)
    assert net[0].weight.grad is None
    net[0].requires_grad_(True)
    estimator(X, Y)
    assert net[0].weight.grad is not None
    net[1] = nn.GRU(4, 4)
    with pytest.raises(SystemRefused, match="GRU"):
        estimator(X, Y)
    net[1] = nn.Dropout(0.5)
    estimator(X, Y)
    assert pairs(estimator)
    net.eval().bfloat16()
    with pytest.raises(InputError, match="bfloat16"):
        estimator(X.bfloat16(), Y)


@pytest.mark.parametrize("make", [NodePerturbation, WeightPerturbation, SPSA, PositionPerturbation])
def test_autocast_is_refused_at_every_call(make) -> None:
    estimator = make(net := nn.Linear(3, 2), cross_entropy)
    for _ in range(2):  # before the first batch, and after one
        with torch.autocast("cpu", torch.bfloat16):
            with pytest.raises(SystemRefused, match=r"^[^\n]*leave autocast around[^\n]*$"):
                estimator(X, Y)
        net.zero_grad()
        estimator(X, Y)
        assert net.weight.grad is not None


def test_backpropagation_may_be_called_inside_autocast() -> None:
    net = nn.Linear(3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        estimate = Backpropagation(net, cross_entropy)(X, Y)
    assert estimate.output.dtype == torch.bfloat16 and net.weight.grad.dtype == torch.float32


def test_a_model_that_enters_autocast_is_refused() -> None:
    class Mixed(nn.Sequential):
        def forward(self, a):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(a)

    with pytest.raises(SystemRefused, match="leave autocast"):
        NodePerturbation(Mixed(nn.Linear(3, 2)), cross_entropy, "anp")(X, Y)


def test_a_node_needs_noise_in_some_call_only() -> None:
    """The first call of a recurrent layer may see an empty state and multiply it by noise."""

    class Multiplicative(nn.Module):
        def forward(self, a):
            return a * (1 + 0.1 * torch.randn_like(a))

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = Noisy(nn.Linear(3, 2), AdditiveGaussian(0.1))
            self.again = Noisy(nn.Linear(2, 2, bias=False), Multiplicative())

        def forward(self, x):
            h = x.new_zeros(len(x), 2)
            for _ in range(2):
                h = self.enter(x) + self.again(h)
            return h

    net = Recurrent()
    NodePerturbation(net, cross_entropy, "anp", sigma=None)(X, Y)
    assert net.again.layer.weight.grad.any()


class Scale(nn.Module):
    """A layer type of the user's own: a = k ∘ x."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return self.kernel * x


class Incomplete(Scale):
    """Registered under its own name, with a product that forgets a parameter."""

    def __init__(self) -> None:
        super().__init__(3)
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return super().forward(x) + self.shift


@outer.register
def _scale(layer: Scale, x, credit):
    return {"kernel": (credit * x).sum(0)}


outer.register(Incomplete, _scale)


def test_a_registered_layer_type_is_trained_whatever_its_parameters_are_called() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Scale(3).double(), nn.Tanh(), nn.Linear(3, 2).double())
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    squared_error(net(x), y).mean().backward()
    truth = net[0].kernel.grad.clone()
    net.zero_grad()
    NodePerturbation(net, squared_error, "np", sigma=1e-4, resamples=20_000)(x, y)
    torch.testing.assert_close(net[0].kernel.grad, truth, rtol=0.1, atol=0.02)
    with pytest.raises(SystemRefused, match="nothing for its parameter 'shift'"):
        NodePerturbation(nn.Sequential(Incomplete()), cross_entropy, "anp")(X, Y)


def test_a_layer_that_is_never_called_is_named() -> None:
    with pytest.raises(SystemRefused, match="'bypassed': never called"):
        NodePerturbation(Functional(), cross_entropy, "anp")(X, Y)


def test_intrinsic_mode_needs_noise_and_a_rule_that_does_not_inject() -> None:
    quiet, noisy = nn.Linear(3, 2), Noisy(nn.Linear(3, 2), AdditiveGaussian(0.1))
    with pytest.raises(SystemRefused, match="noise of its own"):
        NodePerturbation(nn.Sequential(quiet), cross_entropy, "anp", sigma=None)(X, Y)
    injecting = [entry.make(0) for entry in RULES.values() if entry.injects]
    injecting.append(RULES["anp"].make(0, scaling="variance"))
    for rule in injecting:
        with pytest.raises(InputError, match=f"{type(rule).__name__} needs injected noise"):
            NodePerturbation(noisy, cross_entropy, rule, sigma=None)
    assert len(injecting) > 2
    NodePerturbation(noisy, cross_entropy, "np", sigma=0.1)(X, Y)  # on top of its own noise
    assert noisy.layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"sigma": 0.0},
        {"sigma": -1.0},
        {"sigma": float("nan")},
        {"sigma": 1e-8},
        {"resamples": 0},
        {"rule": "amp"},
        {"noise": "gauss"},
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings: dict) -> None:
    with pytest.raises(InputError):
        NodePerturbation(nn.Linear(3, 2), cross_entropy, **{"rule": "anp"} | settings)


@pytest.mark.parametrize(
    ("rule", "scaling", "words"),
    [
        ("anp", "n", "unknown scaling 'n'"),
        ("np", "root", "has none"),
        ("mirrored", "root", "has none"),
    ],
)
def test_bad_scalings_are_refused(rule: str, scaling: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build(config(system="mlp", rule=rule, scaling=scaling))
    with pytest.raises(InputError, match="unknown scaling 'n': did you mean"):
        RULES["anp"].make(0, scaling="n")


def test_what_is_no_batch_is_refused() -> None:
    estimator = NodePerturbation(nn.Linear(3, 2), cross_entropy, "anp")
    for inputs, targets in ((X, Y[:2]), (X[:0], Y[:0]), ((X, X), Y)):
        with pytest.raises(InputError):
            estimator(inputs, targets)


class Event(nn.Module):
    """Spikes where the potential is above 0.5, as no NaN ever is."""

    def forward(self, a):
        return (a > 0.5).float()


@pytest.mark.parametrize("rule", ["anp", "mirrored"])
def test_rows_that_are_not_finite_are_named(rule: str) -> None:
    net = nn.Sequential(nn.Linear(3, 4), Event(), nn.Linear(4, 2))
    makers = (
        lambda: NodePerturbation(net, squared_error, rule),
        lambda: SPSA(net, squared_error),
        lambda: Backpropagation(net, squared_error),
    )
    for make in makers:
        x, y = torch.randn(9, 3), torch.randn(9, 2)
        x[2, 1], x[7, 0] = torch.nan, torch.inf
        with pytest.raises(InputError, match="^inputs of rows 2, 7 contain NaN or infinity"):
            make()(x, y)
        y[3, 0] = torch.nan
        with pytest.raises(InputError, match="^targets of row 3 contain NaN or infinity"):
            make()(torch.randn(9, 3), y)
        assert all(p.grad is None for p in net.parameters())
    large = torch.full((9, 3), 3e38)  # their sum is infinite, and they are not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        NodePerturbation(net, squared_error, "anp")(large, torch.randn(9, 2))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("bp", r"use Backpropagation\(system, loss\)"),
        ("dbp", r"Backpropagation\(decorrelate\(system\), loss\)"),
        ("wp", "use WeightPerturbation"),
        ("spsa", "use SPSA"),
        ("best", "use rule 'mirrored'"),
        ("danp", r"use rule 'anp' with it: system = decorrelate\(system\)"),
        ("dnp", r"use rule 'np' with it"),
        ("dmirrored", "unknown rule 'dmirrored'"),
    ],
)
def test_names_of_the_command_line_say_what_to_use_in_python(rule: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        NodePerturbation(nn.Linear(3, 2), cross_entropy, rule)
    assert "\n" not in str(error.value)


def test_every_value_of_the_option_rule_is_known_in_python_or_named_elsewhere() -> None:
    for name, method in METHODS.items():
        if name not in RULES and not method.needs_model:
            with pytest.raises(InputError, match=rf"^rule '{name}': "):
                NodePerturbation(nn.Linear(3, 2), cross_entropy, name)


def test_time_first_is_refused_where_it_could_be_taken_for_rows() -> None:
    class TimeFirst(nn.Module):
        def __init__(self, steps: int) -> None:
            super().__init__()
            self.layer, self.steps = nn.Linear(3, 2), steps

        def forward(self, x):
            return torch.stack([self.layer(x)] * self.steps)

    def loss(outputs, targets):
        return squared_error(outputs.mean(0), targets)

    x, y = torch.randn(4, 3), torch.randn(4, 2)
    with pytest.raises(InputError, match=r"outputs \(8, 8, 2\) do not have the batch as their"):
        NodePerturbation(TimeFirst(8), loss, "anp")(x, y)
    with pytest.raises(InputError, match=r"shape \(4, 8, 2\) where all passes have 8 rows"):
        NodePerturbation(TimeFirst(4), loss, "mirrored")(x, y)
    NodePerturbation(TimeFirst(5), loss, "anp")(x, y)
    square = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (8, 2)))  # 8 by 2, for 8 rows
    NodePerturbation(square, squared_error, "anp")(x, torch.randn(4, 8, 2))


def test_bfloat16_needs_a_large_sigma() -> None:
    net = nn.Linear(3, 2).bfloat16()
    with pytest.raises(InputError, match="bfloat16"):
        NodePerturbation(net, cross_entropy, "anp", sigma=1e-2)
    NodePerturbation(net, cross_entropy, "anp", sigma=0.1)(X.bfloat16(), Y)
    assert net.weight.grad.dtype == torch.bfloat16


def test_a_loss_that_is_not_per_sample_is_refused() -> None:
    mean = nn.CrossEntropyLoss()
    with pytest.raises(InputError, match="reduction='none'"):
        NodePerturbation(nn.Linear(3, 2), mean, "anp")(X, Y)
    flattened = nn.CrossEntropyLoss(reduction="none")
    with pytest.raises(InputError, match="one value per row, or per position"):
        NodePerturbation(nn.Linear(3, 2), lambda o, y: flattened(o, y).sum(0, True), "anp")(X, Y)
    NodePerturbation(nn.Linear(3, 2), squared_error, "anp")(X, torch.randn(4, 2))
    with pytest.raises(InputError, match="one shape"):
        NodePerturbation(nn.Linear(3, 1), squared_error, "anp")(X, torch.randn(4))


def test_effects_that_would_do_nothing_or_stand_twice_are_refused() -> None:
    lost = nn.Sequential(nn.Linear(3, 2), PCM(), nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(SystemRefused, match=r"'1' \(PCM\): acts inside a layer: wrap it"):
        check(lost)
    noise = AdditiveGaussian(0.1)
    twice = nn.Sequential(nn.Linear(3, 3), noise, nn.ReLU(), nn.Linear(3, 3), noise)
    with pytest.raises(SystemRefused, match="stands behind two layers"):
        check(twice)
    check(nn.Sequential(nn.Linear(3, 3), noise, nn.ReLU(), nn.Linear(3, 3), AdditiveGaussian(0.1)))
    with pytest.raises(SystemRefused, match="PCM.*acts inside a layer"):
        check(nn.Sequential(Noisy(nn.Linear(3, 3), nn.Sequential(PCM()))))
    pcm = PCM()
    shared = nn.Sequential(Noisy(nn.Linear(3, 3), pcm), nn.ReLU(), Noisy(nn.Linear(3, 3), pcm))
    with pytest.raises(SystemRefused, match="PCM.*stands behind two layers"):
        check(shared)


def test_effects_behind_units_belong_to_no_node() -> None:
    """Noise of what units hand on is the next layer's input."""
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), AdditiveGaussian(0.1), nn.Linear(3, 2))
    assert [node.name for node in check(net)] == ["0", "3"]


def test_a_chain_of_chains_is_followed_and_a_forward_of_ones_own_is_not() -> None:
    first, second = AdditiveGaussian(0.1), AdditiveGaussian(0.2)
    nested = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(3, 3)), first), second, nn.ReLU())
    (node,) = check(nested)
    assert (node.name, node.outlet) == ("1", second) and node.inlet is nested[0][0][0]

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.noise = AdditiveGaussian(0.1)

        def forward(self, x):
            return self.noise(self.layer(x).relu())

    assert [node.name for node in check(Own())] == ["layer"]


def test_a_layer_that_goes_round_its_effect_is_named() -> None:
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, AdditiveGaussian(0.1), nn.ReLU(), shared)
    estimator = NodePerturbation(net, cross_entropy, "anp", sigma=0.1)
    with pytest.raises(SystemRefused, match="'1': an effect that its layer did not reach"):
        estimator(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))


def test_products_that_are_slower_in_another_dtype_are_warned_of_once(monkeypatch) -> None:
    """At the line of the caller; a dtype that is quicker, or the weights' own, is not."""
    times = {torch.bfloat16: 3.5, torch.float64: 0.9}
    monkeypatch.setattr("noisynets.core.speed.slowdown", lambda dtype, against: times[dtype])
    net = nn.Linear(3, 2)
    for quick in (None, torch.float32, torch.float64):
        NodePerturbation(net, cross_entropy, "anp", product_dtype=quick)
    with pytest.warns(UserWarning, match=r"bfloat16: .* 3\.5 times as long .* leave") as found:
        NodePerturbation(net, cross_entropy, "anp", product_dtype=torch.bfloat16)(X, Y)
    assert [warning.filename for warning in found] == [__file__]


def test_the_time_of_a_product_is_measured_against_another_dtypes(monkeypatch) -> None:
    """Of products that take 12 ms and 4 ms."""
    times = {torch.bfloat16: 0.012, torch.float32: 0.004}
    monkeypatch.setattr(torch, "mm", lambda x, y: time.sleep(times[x.dtype]))
    found = slowdown.__wrapped__(torch.bfloat16, torch.float32)
    assert found == pytest.approx(3, rel=0.25)
