"""Diagnosis: measures against closed forms, advice for planted faults, and restored sessions."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_cli import call
from tiny import config, run, same, tiny_task
from torch import nn

from noisynets import diagnose as d
from noisynets.core.losses import cross_entropy
from noisynets.core.nodes import find_nodes
from noisynets.core.record import NodeRecord
from noisynets.diagnose import credit as measured
from noisynets.diagnose.advice import Finding
from noisynets.diagnose.bias import COUNTS
from noisynets.diagnose.gradients import true_gradients
from noisynets.diagnose.ladder import Rung
from noisynets.diagnose.nodes import scales
from noisynets.diagnose.pairs import Batches, PairSource
from noisynets.diagnose.rates import Trial
from noisynets.diagnose.statistics import ENDLESS, signal_to_noise
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.run.data import load_data
from noisynets.run.folder import RunFolder
from noisynets.run.session import Session, build
from noisynets.run.settings import Config, resolve
from noisynets.tasks.data import Examples

TINY = tiny_task("train", None)


def one(session: Session, examples: Examples = TINY, **settings) -> d.NodeMeasures:
    """Return the measures of a system's only node."""
    (node,) = d.measure(session, examples, trial_steps=0, **settings).nodes
    return node


def linear(rule: str, **settings) -> Session:
    """A system of one layer, whose loss is smooth and whose gradient is p − y."""
    return build(
        config(system="mlp", hidden=(), rule=rule, sigma=1e-3, dtype="float64", **settings)
    )


# --- closed forms -----------------------------------------------------------------------------


def test_signal_to_noise_of_node_perturbation_is_that_of_gaussian_noise(monkeypatch) -> None:
    """E‖δL ξ/σ² − g‖² = (N + 1)‖g‖² per sample, for N nodes and a loss that is nearly linear."""
    monkeypatch.setattr(measured, "REPEATS", 1000)
    monkeypatch.setattr(measured, "LEAST_BATCHES", 1)
    monkeypatch.setattr(measured, "LEAST_ROWS", 1)
    session = linear("np", batch_size=20)
    found = measured.credit(session, Batches(session, TINY), {}, sends=False, noisy=False)
    x, y = Batches(session, TINY).draw(20)
    g = torch.softmax(session.system(x).detach(), 1) - torch.eye(3, dtype=torch.float64)[y]
    signal = (g.T @ x.flatten(1)).square().sum() + g.sum(0).square().sum()
    noise = 4 * (g.square().sum(1) * (x.flatten(1).square().sum(1) + 1)).sum()
    assert found.nodes["1"]["snr"] == pytest.approx(float(signal / noise), rel=0.15)


def test_exact_gradients_have_no_noise() -> None:
    node = one(build(config(system="mlp", hidden=(), rule="bp")))
    assert node.snr == ENDLESS and node.cosine == pytest.approx(1)
    assert signal_to_noise(torch.zeros(3, 2)) is None


def test_linear_nodes_explain_the_whole_loss_difference() -> None:
    session = linear("mirrored")
    found = d.measure(session, TINY, trial_steps=0)
    (node,) = found.nodes
    assert found.explained == pytest.approx(1, abs=0.01) and node.slope == pytest.approx(
        1, abs=0.01
    )
    assert node.cosine == pytest.approx(1) and node.share == pytest.approx(found.explained)
    assert node.sigma == pytest.approx(1e-3, rel=0.03)
    deep = d.measure(build(config(system="mlp", rule="np", sigma=1e-3, dtype="float64")), TINY)
    shares = [node.share for node in deep.nodes]
    assert sum(shares) == pytest.approx(deep.explained)
    assert abs(deep.explained - 1) < 4 * deep.explained_error < 0.6


def test_sigma_is_that_of_one_pass_for_the_systems_own_noise_too() -> None:
    for noise in (0.1, 0.3):
        session = build(config(system="noisy-mlp", intrinsic_noise=noise))
        for node in d.measure(session, TINY, trial_steps=0).nodes:
            assert node.sigma == pytest.approx(noise, rel=0.1)


def test_relative_sigma_uses_the_deviation_of_activities_over_samples() -> None:
    session = linear("anp")
    a = session.system(TINY.batch(slice(None), torch.float64)[0])
    expected = 1e-3 / float(a.std(0).square().mean().sqrt().detach())
    assert one(session).relative_sigma == pytest.approx(expected, rel=0.1)


def test_distortion_is_curvature_over_slope() -> None:
    """Rms of ½σ² zᵀHz over rms of σ g·z, with H = diag(p) − p pᵀ of softmax and cross-entropy."""
    session = linear("np")
    x, y = TINY.batch(slice(None), torch.float64)
    p = torch.softmax(session.system(x), 1).detach()
    g = p - torch.eye(3, dtype=torch.float64)[y]
    h = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    trace, square = h.diagonal(dim1=1, dim2=2).sum(1), h.square().sum((1, 2))
    even = ((trace.square() + 2 * square) / 4).mean().sqrt()
    expected = float(even / g.square().sum(1).mean().sqrt())
    rungs = d.ladder(session, TINY, (1e-3, 1e-2))
    for rung in rungs:
        assert rung.distortion / rung.sigma == pytest.approx(expected, rel=0.2)
        assert rung.excess == pytest.approx(float(trace.mean()) / 2 * rung.sigma**2, rel=0.2)


def test_activities_that_are_equal_but_for_rounding_have_no_deviation() -> None:
    """Means over a trial are, where every input spikes once in each sample."""
    torch.manual_seed(0)
    for noise, known in ((1e-7, False), (1e-2, True)):
        a = torch.randn(1, 5) * (1 + noise * torch.randn(20, 5))
        call = NodeRecord(None, a, a, torch.zeros(1, 20, 5), slice(0, 1), a=a)
        assert (scales(call, torch.ones(1, 20, 5))["relative_sigma"] is not None) == known


def test_rounding_distorts_at_small_sigma_and_intrinsic_noise_at_larger_sigma() -> None:
    plain = d.ladder(build(config(system="mlp", rule="np")), TINY)
    noisy = d.ladder(build(config(system="noisy-mlp", rule="np", sigma=0.1)), TINY)
    assert plain[0].distortion > 5 * plain[4].distortion
    assert noisy[4].distortion == pytest.approx(3**0.5, rel=0.15)  # var(½(a + b) − c)/var(½(a − b))
    assert d.best(noisy) > 100 * d.best(plain)


def test_the_ladder_perturbs_nodes_or_weights_and_respects_the_dtype() -> None:
    weights = d.ladder(build(config(system="mlp", rule="spsa")), TINY)
    assert all(rung.odd > 0 for rung in weights)
    session = build(config(system="mlp", rule="np", sigma=0.1, dtype="bfloat16"))
    assert [r.sigma for r in d.ladder(session, TINY)] == pytest.approx([0.1, 0.1**0.5, 1.0])


def test_a_learnt_map_is_compared_with_least_squares() -> None:
    session, steps = d.warmed(config(system="noisy-mlp"), TINY, 300)
    _, top = d.measure(session, TINY, steps=steps, trial_steps=0).nodes
    # δa = W δx + noise of variance 2 · 0.1²
    source, batches = PairSource(session, 16), Batches(session, TINY)
    record = source(*batches.draw(300))
    made = record.calls[1].shift.flatten(0, 1) @ list(session.system.parameters())[2].T
    power = float(made.detach().square().mean())
    assert top.ridge == pytest.approx(power / (power + 0.02), abs=0.03)
    assert top.learnt == pytest.approx(top.ridge, abs=0.05)
    assert top.pairs == 300 * 20 / 8
    injected, steps = d.warmed(config(system="mlp"), TINY, 100)
    _, top = d.measure(injected, TINY, steps=steps, trial_steps=0).nodes
    assert top.ridge == pytest.approx(1) and top.learnt == pytest.approx(1, abs=1e-3)


def test_dead_units_are_counted() -> None:
    for system, slope in (("mlp", 0.0), ("noisy-mlp", 0.0), ("sign-mlp", 0.2)):
        session = build(config(system=system, rule="anp", slope=slope))
        layer = next(m for m in session.system.modules() if isinstance(m, nn.Linear))
        with torch.no_grad():
            layer.bias[:2] = -100
        found = d.measure(session, TINY, trial_steps=0)
        assert found.nodes[0].dead == pytest.approx(2 / 8)
    with torch.no_grad():
        layer.weight.zero_()  # of units that are flipped by noise alone
        layer.bias.zero_()
    assert d.measure(session, TINY, trial_steps=0).nodes[0].dead == 1


def test_nodes_before_hard_units_have_no_true_gradient() -> None:
    for system, rule in (("sign-mlp", "anp"), ("bernoulli-mlp", "anp"), ("quantised-mlp", "anp")):
        session = build(config(system=system, rule=rule))
        below, top = d.measure(session, TINY, trial_steps=0).nodes
        assert below.cosine is None and top.cosine is not None
    x, y = TINY.first(20).batch(slice(None), torch.float32)
    smooth = build(config(system="mlp"))
    found = true_gradients(smooth.system, find_nodes(smooth.system), cross_entropy, x, y, 1)
    cross_entropy(smooth.system(x), y).mean().backward()
    assert torch.allclose(found["3"][:24].view(3, 8), list(smooth.system.parameters())[2].grad)


# --- any system ------------------------------------------------------------------------------


class Opaque(nn.Module):
    """A system whose output is computed outside of autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.layers(x)
        return torch.from_numpy(a.detach().numpy() * 2)


def test_measures_that_are_not_defined_are_none() -> None:
    system = Opaque()
    estimator = NodePerturbation(system, cross_entropy, "anp")
    kept = build(config(system="mlp", rule="anp"))
    optimiser = torch.optim.Adam(system.parameters())
    session = replace(kept, system=system, estimator=estimator, optimiser=optimiser)
    found = d.measure(session, TINY, trial_steps=0)
    assert [node.snr is not None for node in found.nodes] == [True, True]
    assert {(n.cosine, n.share, n.ridge, n.dead) for n in found.nodes} == {(None,) * 4}
    assert found.rungs and "nothing stands out" in d.summary(d.advise(found))
    assert "layers.3" in d.table(found)


CASES = [
    {},
    {"system": "mlp"},
    {"rule": "danp"},
    {"rule": "wp"},
    {"rule": "learned"},
    {"system": "lif", "steps": 4},
    {"system": "noisy-lif", "steps": 4, "credit_over": "steps"},
    {
        "system": "noisy-lif",
        "steps": 4,
        "credit_over": "steps",
        "rule": "anp",
        "encoder": "current",
    },
    {"system": "rlif", "steps": 3},
    {"system": "analog-mlp"},
    {"system": "noisy-conv", "hidden": (4,)},
    {"system": "resnet", "hidden": (4, 4)},
    {"system": "mlp", "rule": "inp"},
    {"system": "mlp", "correction": 0.5},
    {"loss_gradient": "measured"},
    {"rule": "frozen", "system": "bernoulli-mlp"},
    {"system": "numpy-box"},
    {"system": "sign-numpy-box", "rule": "anp"},
    {"system": "numpy-box", "rule": "pat"},
    {"system": "process-box"},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_the_session_is_restored(settings: dict) -> None:
    """A measured session continues with the same bits as one that was not measured."""
    measured_, plain = (d.warmed(config(**settings), TINY, 3)[0] for _ in range(2))
    for session in (measured_, plain):
        session.progress.first_loss = 1.0
    before = copy.deepcopy(measured_.state())
    found = d.measure(measured_, TINY, steps=3, trial_steps=2)
    assert same(measured_.state(), before)
    x, y = TINY.first(20).batch(slice(None), torch.float32)
    for session in (measured_, plain):
        session.step_(x, y, 0.0)
    assert same(measured_.state(), plain.state())
    assert all(node.snr is not None for node in found.nodes) or settings.get("rule") == "frozen"
    assert all(node.dead is not None for node in found.nodes)
    json.dumps(d.as_json(found, d.advise(found)), allow_nan=False)


# --- bias ------------------------------------------------------------------------------------


def test_an_unbiased_rule_comes_as_near_as_its_noise_lets_it() -> None:
    """One linear node: the power of noise in a mean of N is that of one estimate over N."""
    session = linear("np", batch_size=20)
    snr = one(session).snr
    assert snr is not None
    (found,) = d.bias(session, TINY, ["np"])
    assert found.layers.keys() == {"1"} and found.layers["1"] == found.whole
    expected = [(1 + 1 / (n * snr)) ** -0.5 for n in COUNTS]
    assert found.whole[-1] == pytest.approx(expected[-1], abs=0.02)
    assert found.whole[0] < 0.9 < 0.99 < found.whole[-1]


def test_a_biased_rule_levels_off() -> None:
    """Random feedback behind a hidden layer; the output layer gets the error itself."""
    session = build(config(system="mlp", hidden=(8,), rule="bp"))
    exact, random = d.bias(session, TINY, ["bp", "fa"], teaching=3)
    assert exact.whole == pytest.approx([1] * len(COUNTS), abs=1e-5)
    assert random.layers["1"][0] == pytest.approx(random.layers["1"][-1], abs=1e-3)
    assert random.layers["1"][-1] < 0.9 < random.layers["3"][-1]


@pytest.mark.parametrize("rule", ["mirrored", "spsa", "learned"])
def test_bias_leaves_a_session_as_it_was(rule: str) -> None:
    session, _ = d.warmed(config(rule=rule, system="mlp"), TINY, 3)
    session.progress.first_loss = 1.0
    before = copy.deepcopy(session.state())
    found = d.bias(session, TINY, [rule, "dfa", rule, "np"], teaching=2)
    assert same(session.state(), before)
    assert [curve.rule for curve in found] == [rule, "dfa", "np"]


def test_mirrors_of_a_rule_that_is_not_the_runs_are_taught_first() -> None:
    """The weights stay; more estimates teach more."""
    session = build(config(system="mlp", hidden=(64, 64), rule="bp"))
    few, many = (d.bias(session, TINY, ["mirrored"], teaching=n)[0] for n in (1, 200))
    assert many.whole[-1] > 0.95 > few.whole[-1]


# --- planted faults --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist() -> Examples:
    return load_data(resolve(Config(device="cpu")))[0]


def advice(mnist: Examples, dead: int | None = None, steps: int = 100, **settings) -> list[Finding]:
    c = resolve(Config(device="cpu", **settings))
    session, done = d.warmed(c, mnist, steps)
    if dead is not None:
        with torch.no_grad():
            [m for m in session.system.modules() if isinstance(m, nn.Linear)][dead].bias.fill_(-100)
    return d.advise(d.measure(session, mnist, steps=done, trial_steps=60))


@pytest.mark.parametrize(
    ("fault", "knob", "direction", "layer"),
    [
        ({"system": "mlp", "rule": "np", "sigma": 1e-6}, "--sigma", "raise", None),
        ({"system": "mlp", "rule": "np", "sigma": 1.0}, "--sigma", "lower", None),
        ({"system": "mlp", "sigma": 3.0}, "--sigma", "lower", "1"),
        ({"system": "mlp", "rule": "np", "lr": 0.1}, "--lr", "lower", None),
        ({"lr": 0.1}, "--lr", "lower", None),
        ({"batch_size": 1}, "--batch-size", "raise", "3"),
        ({"batch_size": 1, "rule": "learned"}, "--batch-size", "raise", "1"),
        ({"slope": 0.0, "dead": 1}, "layer", "look at", "3"),
        ({"system": "mlp", "rule": "anp", "slope": 0.0, "dead": 0}, "layer", "look at", "1"),
    ],
    ids=str,
)
def test_planted_faults_are_named(fault, knob, direction, layer, mnist: Examples) -> None:
    (found,) = advice(mnist, **fault)
    assert (found.knob, found.direction, found.layer) == (knob, direction, layer), found
    assert knob in str(found) or knob == "layer"


@pytest.mark.parametrize(
    "settings", [{}, {"system": "mlp", "rule": "np"}, {"rule": "anp"}, {"rule": "bp"}], ids=str
)
def test_good_settings_give_no_advice(settings: dict, mnist: Examples) -> None:
    assert advice(mnist, **settings) == []


# --- advice ----------------------------------------------------------------------------------

number = st.floats(0, 10, allow_nan=False)
share = st.none() | st.floats(-1, 1)
node_measures = st.builds(
    d.NodeMeasures,
    name=st.sampled_from(["1", "3", "5"]),
    learnt=share,
    ridge=share,
    slope=share,
    slope_error=st.floats(0, 1),
    dead=st.none() | st.floats(0, 1),
)


@st.composite
def measures(draw) -> d.Measures:
    rule = draw(st.sampled_from(["np", "mirrored", "learned", "bp"]))
    sigma = None if rule == "bp" else draw(st.sampled_from([1e-6, 1e-3, 1.0]))
    c = Config(rule=rule, sigma=sigma, lr=1e-3, batch_size=draw(st.sampled_from([1, 100])))
    rungs = [Rung(s, draw(number), draw(number), 0.0) for s in (1e-6, 1e-4, 1e-3, 1e-2, 1.0)]
    lrs = [
        Trial(lr, draw(number), draw(number | st.just(float("inf")))) for lr in (3e-4, 1e-3, 3e-3)
    ]
    return d.Measures(
        config=c,
        steps=draw(st.sampled_from([100, 5000])),
        nodes=tuple(draw(st.lists(node_measures, min_size=1, max_size=3))),
        loss=1.0,
        rungs=tuple(rungs) if sigma else (),
        trials=draw(st.sampled_from([tuple(lrs), ()])),
        diverged=draw(st.booleans()),
    )


@given(measures())
def test_advice_is_at_most_one_finding_with_its_number(m: d.Measures) -> None:
    found = d.advise(m)
    assert found == d.advise(m) and len(found) <= 1
    names = {node.name for node in m.nodes} | {None}
    for finding in found:
        assert finding.knob in ("--sigma", "--lr", "--batch-size", "layer")
        assert finding.direction in ("raise", "lower", "look at") and finding.layer in names
        assert finding.number == finding.number and finding.reason
    assert found or not m.diverged
    json.dumps(d.as_json(m, found), allow_nan=False)


@given(measures())
def test_dead_layers_are_always_reported_and_good_measures_never(m: d.Measures) -> None:
    quiet = replace(m, rungs=(), trials=(), diverged=False, config=replace(m.config, sigma=None))
    found = d.advise(quiet)
    dead = next((n.name for n in m.nodes if n.dead is not None and n.dead > 0.5), None)
    if dead is not None:
        assert [(f.knob, f.layer) for f in found] == [("layer", dead)]
    elif m.config.rule in ("np", "bp"):
        assert not found
    nothing = tuple(replace(n, learnt=n.ridge, slope=1.0, dead=0.0) for n in m.nodes)
    assert not d.advise(replace(quiet, nodes=nothing))


# --- sigma auto and the command line ----------------------------------------------------------


def test_sigma_auto_becomes_a_number_in_config_json(tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    words = ["mnist", "--hidden", "8", "--epochs", "1", "--batch-size", "1000", "--system", "mlp"]
    args = [*words, "--rule", "np", "--sigma", "auto", "--out", str(out), "--no-test"]
    assert call("train", *args) == 0
    sigma = json.loads((out / "config.json").read_text())["sigma"]
    assert 1e-5 < sigma < 1e-2
    assert capsys.readouterr().out.splitlines()[0].startswith(f"sigma {sigma:g}, ")


@pytest.mark.parametrize(
    ("settings", "sigma"),
    [({"rule": "np"}, 0.3), ({"rule": "spsa"}, 0.03), ({"system": "lif", "steps": 4}, 0.2)],
    ids=str,
)
def test_sigma_auto_is_refused_where_nothing_is_injected(settings: dict, sigma: float) -> None:
    chosen = d.settled(config(**{"system": "noisy-mlp"} | settings, sigma="auto"), TINY).sigma
    assert sigma / 10 < chosen < 10 * sigma
    for wrong in ({"rule": "bp"}, {"system": "noisy-mlp"}, {"rule": "anp", "system": "sign-mlp"}):
        with pytest.raises(ValueError, match="--sigma auto: '[a-z]+' injects nothing"):
            config(sigma="auto", **wrong)


@pytest.mark.pictures
def test_runs_and_systems_are_diagnosed(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run(tmp_path / "run", rule="np", system="mlp", epochs=1)
    before = {p.name: p.read_bytes() for p in folder.path.iterdir()}
    assert call("diagnose", "run", "--trial-steps", "5", "--bias", "np", "bp") == 0
    printed = capsys.readouterr().out
    assert "after 13 steps" in printed and "run/diagnose.png" in printed
    after = {p.name: p.read_bytes() for p in folder.path.iterdir()}
    assert {k: after[k] for k in before} == before
    made = {"diagnose.png", "diagnose.json", "diagnose-bias.png", "diagnose-bias.json"}
    assert after.keys() - before.keys() == made
    assert "cosine of the mean of N" in printed and "run/diagnose-bias.png" in printed
    assert json.loads(after["diagnose-bias.json"])["rules"].keys() == {"np", "bp"}
    numbers = json.loads(after["diagnose.json"])
    assert [node["name"] for node in numbers["nodes"]] == ["1", "3"] and numbers["advice"]
    system = ["diagnose", "mlp", "tiny", "--hidden", "8", "--warm-up", "5", "--trial-steps", "0"]
    assert call(*system, "--rule", "spsa", "--sigma", "auto", "--out", "a.png") == 0
    assert (tmp_path / "a.png").stat().st_size > 10_000 and (tmp_path / "a.json").is_file()
    assert call(*system) == 0 and (tmp_path / "mlp-diagnose.png").is_file()


def test_a_diverged_run_gets_advice(tmp_path: Path, capsys) -> None:
    path = tmp_path / "run"
    run(path, rule="np", system="mlp", epochs=1)
    summary = RunFolder(path).summary()
    RunFolder(path).write_summary(summary | {"diverged": True})
    assert call("diagnose", str(path), "--trial-steps", "0") == 0
    assert "lower --lr: the run diverged at 0.004" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nosy-mlp"], "unknown run folder or system 'nosy-mlp': did you mean 'noisy-mlp'?"),
        (["mlp", "--rule", "amp"], "unknown rule 'amp'"),
        (["mlp", "--system", "conv"], "--system conv: it is 'mlp' that is diagnosed"),
        (["mlp", "--warm-up", "-1"], "--warm-up -1 must be at least 0"),
        (["mlp", "--out", "nowhere/a.png"], "--out nowhere/a.png: must be a .png in a folder"),
        (["mlp", "--rule", "bp", "--sigma", "auto"], "--sigma auto: 'bp' injects nothing"),
        (["noisy-mlp", "--rule", "np"], "NP needs injected noise"),
        (["mlp", "--bias", "anp", "amp"], "unknown rule 'amp'"),
        (
            ["mlp", "tiny", "--warm-up", "0", "--trial-steps", "0", "--bias", "kolen-pollack"],
            "--bias kolen-pollack: it learns while weights change",
        ),
        (["RUN", "--rule", "np"], "--rule: the settings of"),
        (["RUN"], "no checkpoint yet"),
    ],
    ids=str,
)
def test_bad_input_gives_one_line(args, words: str, tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "run", epochs=1, rule="bp")
    folder.checkpoint.unlink()
    assert call("diagnose", *[str(folder.path) if a == "RUN" else a for a in args]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
