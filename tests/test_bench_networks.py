"""Cosines of mirrored credit with autograd: measured, kept in a file, and put into a table."""

import json
from pathlib import Path

import pytest
import tiny_networks as tiny
import torch

from noisynets import Chip, cli
from noisynets.bench.networks import NETWORKS, line, markdown, measure, missing, results, run
from noisynets.bench.networks.measure import autograd, compared, on_chip
from noisynets.bench.networks.run import isolated
from noisynets.core.types import Wrapper

OWN = [name for name in NETWORKS if not name.startswith(("timm", "transformers", "peft"))]


# --- measuring ---------------------------------------------------------------------------------


def test_the_output_layer_has_the_gradient_of_autograd() -> None:
    """Its credit is the known error: the cosine is 1, and so is the ratio of the norms."""
    found = measure(tiny.LINEAR, steps=2, noise="none")
    assert found["outcome"] == "measured" and found["pairs"] == 2 and found["parameters"] == 70
    assert found["cosines"].keys() == {"weight", "bias"}
    assert found["least"] > 1 - 1e-6 and found["ceiling"] == pytest.approx(1, abs=1e-9)
    assert all(ratio == pytest.approx(1, abs=1e-5) for ratio in found["ratios"].values())


def test_mirrors_that_were_taught_agree_better() -> None:
    """Two pairs teach six inputs and eight units little; 100 teach them."""
    taught = measure(tiny.PERCEPTRON, steps=100, noise="none")["least"]
    assert taught > 0.95 > measure(tiny.PERCEPTRON, steps=1, noise="none")["least"]


def test_a_chip_is_compared_with_means_over_its_noise() -> None:
    found = measure(tiny.LINEAR, steps=2, noise="intrinsic")
    assert found["outcome"] == "measured" and found["worst"].startswith("layer.layer.")
    assert 0.9 < found["ceiling"] < 1 - 1e-9 and found["least"] > 0.9


@pytest.mark.parametrize(
    ("network", "outcome", "words"),
    [
        (tiny.REFUSED, "refused", "'layer' (Linear): has complex weights"),
        (tiny.ABSENT, "skipped", "No module named 'absent'"),
        (tiny.BROKEN, "broken", "mat1 and mat2 shapes cannot be multiplied"),
        (tiny.CRASHED, "crashed", "KeyError: 'rows"),
    ],
)
def test_what_goes_wrong_is_told_in_a_line(network, outcome: str, words: str) -> None:
    found = measure(network, steps=2, noise="none")
    assert found["outcome"] == outcome and found["message"].startswith(words)
    assert "\n" not in found["message"] and len(found["message"]) < 230


def test_the_truth_is_the_gradient_of_the_mean_loss() -> None:
    """As backward() leaves it; of a parameter without effect it is 0, frozen ones are left out."""
    torch.manual_seed(0)
    system = tiny.Unused().double()
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.arange(8)
    found = autograd(system, tiny.UNUSED, x, y, draws=3)
    assert found.keys() == {"last.weight", "last.bias", "idle"} and not found["idle"].any()
    assert all(p.grad is None for p in system.parameters())
    torch.nn.functional.cross_entropy(system(x), y).backward()
    assert torch.allclose(found["last.weight"], system.last.weight.grad, rtol=1e-12, atol=0)


def test_cosines_are_those_of_the_definition() -> None:
    truth = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[2.0]]), "zero": torch.zeros(2)}
    estimate = {"a": torch.tensor([4.0, 3.0]), "b": torch.tensor([[-1.0]]), "zero": torch.ones(2)}
    again = truth | {"a": torch.tensor([3.0, 0.0])}
    found = compared(estimate, truth, again)
    assert found["cosines"] == pytest.approx({"a": 24 / 25, "b": -1.0})
    assert found["ratios"] == pytest.approx({"a": 1.0, "b": 0.5}) and found["worst"] == "b"
    assert found["least"] == pytest.approx(-1) and found["median"] == pytest.approx(-0.02)
    assert found["ceiling"] == pytest.approx(3 / 5) and found["negligible"] == ["zero"]
    assert found["least_layer"] == pytest.approx(22 / (26 * 29) ** 0.5)
    assert found["worst_layer"] == "", "both are parameters of the network itself"
    apart = compared(*({f"{name}.weight": g[name] for name in g} for g in (estimate, truth, again)))
    assert apart["least_layer"] == pytest.approx(-1) and apart["worst_layer"] == "b"
    lost = compared({**estimate, "a": torch.tensor([float("nan"), 1.0])}, truth, truth)
    assert lost["cosines"]["a"] == -1.0


def test_every_layer_is_put_on_the_chip_once() -> None:
    """Also where two modules share it; norms, units and embeddings stay digital."""
    shared = torch.nn.Linear(4, 4)
    system = torch.nn.Sequential(shared, torch.nn.LayerNorm(4), torch.nn.Sequential(shared))
    x, before = torch.randn(3, 4), system[1]
    wrapped = on_chip(system, Chip("pcm"), x)
    assert isinstance(wrapped[0], Wrapper) and wrapped[2][0] is wrapped[0]
    assert wrapped[1] is before and wrapped[0].core[1] is shared and wrapped(x).shape == x.shape
    assert isinstance(on_chip(torch.nn.Linear(2, 2), Chip("pcm"), x[:, :2]), Wrapper)


@pytest.mark.parametrize("name", OWN)
def test_networks_run_and_have_a_gradient_everywhere(name: str) -> None:
    """Of every trained parameter, two rows of a batch suffice; the loss has a value per row."""
    torch.manual_seed(0)
    network = NETWORKS[name]
    try:
        system = network.build()
    except ImportError:
        pytest.skip("a part of this package is missing")
    x, y = network.batch(torch.Generator().manual_seed(0))
    loss = network.loss(system(x), y)
    assert loss.shape == (len(x),)
    loss.mean().backward()
    trained = [p for p in system.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and p.grad.isfinite().all() for p in trained)


# --- files and tables --------------------------------------------------------------------------


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    for network in (tiny.LINEAR, tiny.ENDING):
        monkeypatch.setitem(NETWORKS, network.name, network)
    out, table = tmp_path / "new" / "out.jsonl", tmp_path / "table.md"
    command = ["bench", "networks", "--only", "linear", "ending", "--steps", "3"]
    cli.main([*command, "--out", str(out), "--markdown", str(table)])
    said = capsys.readouterr().out.splitlines()
    assert [text.split()[0] for text in said] == ["linear", "ending"]
    kept = [json.loads(text) for text in out.read_text().splitlines()]
    assert [(f["network"], f["outcome"], f["steps"], f["noise"]) for f in kept] == [
        ("linear", "measured", 3, "none"),
        ("ending", "crashed", 3, "none"),
    ]
    assert "| linear | 3 | 1.000 | 1.000 |" in table.read_text()
    assert "crashed: the process ended with exit code 7" in table.read_text()
    monkeypatch.setattr(run, "isolated", None)
    before = out.read_bytes()
    cli.main([*command, "--out", str(out)])
    assert capsys.readouterr().out.rstrip() == table.read_text().rstrip()
    assert out.read_bytes() == before


def test_other_steps_and_noise_are_measured_and_a_missing_package_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def found(network, steps, noise, timeout):
        made.append((network.name, steps, noise))
        outcome = "skipped" if network is tiny.ABSENT else "refused"
        names = {"network": network.name, "steps": steps, "noise": noise, "note": ""}
        return {**names, "outcome": outcome, "message": "why", "seconds": 0.1}

    monkeypatch.setattr(run, "isolated", found)
    path, networks = tmp_path / "out.jsonl", (tiny.LINEAR, tiny.ABSENT)
    for steps, noise in ((3, "none"), (3, "none"), (4, "none"), (3, "intrinsic")):
        list(missing(networks, path, steps, noise, timeout=1.0))
    linear, absent = ([m for m in made if m[0] == n] for n in ("linear", "absent"))
    assert linear == [("linear", 3, "none"), ("linear", 4, "none"), ("linear", 3, "intrinsic")]
    assert len(absent) == 4 and {f["network"] for f in results(path)} == {"linear"}


def test_a_process_that_takes_too_long_is_ended() -> None:
    found = isolated(tiny.LINEAR, 3, "none", timeout=0)
    assert (found["outcome"], found["message"]) == ("late", "took more than 0 s")


def test_the_table_shows_what_is_below_the_aim() -> None:
    head = {"steps": 300, "seconds": 2.0, "note": "as it is"}
    good = {
        "network": "good", "noise": "none", "outcome": "measured", "pairs": 225, "least": 0.9512,
        "least_layer": 0.9612, "worst_layer": "a",
        "median": 0.99, "worst": "a.weight", "ceiling": 1.0, "fallbacks": [],
    }  # fmt: skip
    bad = good | {
        "network": "bad", "noise": "intrinsic", "least": 0.9449, "least_layer": 0.9412,
        "ceiling": 0.97, "fallbacks": ["a", "b"],
    }  # fmt: skip
    other = {
        "network": "other",
        "noise": "none",
        "outcome": "crashed",
        "message": "a | b: here: do this",
    }
    injected, chip = markdown([head | f for f in (good, bad, other)]).split("## ")[1:]
    assert "| good | 225 | 0.961 | 0.951 | 0.990 | `a.weight` | – | – | as it is |" in injected
    assert "| other | – | – | – | – |  | – | – | crashed: a / b: here |" in injected
    assert (
        "| bad | 225 | **0.941** | **0.945** | 0.990 | `a.weight` | 0.970 | 2 | as it is |" in chip
    )
    assert (
        line(head | bad).split() == "bad 2.0 s 0.945 0.990 a.weight 2 with learned credit".split()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["networks", "--only", "glo"], "unknown network 'glo': did you mean 'glu'"),
        (["networks", "--steps", "0"], "--steps 0 must be at least 1"),
        (["networks", "--noise", "much"], "'much'"),
        (["networks", "--quick"], "--quick and --threads are settings of speed alone"),
        (
            ["smoke", "--only", "glu"],
            "--only, --steps, --noise, --timeout and --markdown are",
        ),
        (["networks", "--out", "FILE"], "line 1: is no result of networks"),
    ],
)
def test_bad_arguments_are_named(arguments, words: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "file"
    file.write_text('{"network": 3}\n')
    with pytest.raises(SystemExit) as error:
        cli.main(["bench", *(str(file) if word == "FILE" else word for word in arguments)])
    assert error.value.code == 2 and words in capsys.readouterr().err
