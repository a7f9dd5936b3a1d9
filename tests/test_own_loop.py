"""Estimators in loops that are not ours, and what docs/how-to/own-loop.md shows."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from noisynets import Backpropagation, NodePerturbation, cross_entropy

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))
Y = X[:, :3].argmax(1)
PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "own-loop.md"
SECTIONS = {
    name: re.findall(r"```python\n(.*?)```", text, re.S)
    for name, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.S | re.M)
}
PACKAGES = {"Lightning": "lightning", "Accelerate": "accelerate"}


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters()]


def copies(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def by_autograd(model: nn.Module):
    return lambda x, y: cross_entropy(model(x), y).mean().backward()


def every(shape, like, generator):
    """A sampler: the same noise for every row, pass and call."""
    pattern = like.new_tensor([1.0, -1.0, 0.5, 2.0, -0.25])
    return pattern[: shape[-1]].expand(tuple(shape)).clone()


@pytest.mark.parametrize("name", [name for name in SECTIONS if name != "The loop"])
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_the_page_runs(name: str, tmp_path: Path, monkeypatch) -> None:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page", "__file__": str(PAGE)}
    needs = [] if name != "Accumulation" else SECTIONS["Groups of parameters"]
    (setup,) = SECTIONS["The loop"]
    exec(compile(setup, name, "exec"), names)
    before = copies(names["model"])
    for block in (*needs, *SECTIONS[name]):
        exec(compile(block, name, "exec"), names)
    now = copies(names["model"])
    assert all(not torch.equal(a, b) for a, b in zip(before, now, strict=True))
    if name == "fit":
        assert {"metrics.csv", "checkpoint.safetensors"} <= {f.name for f in tmp_path.rglob("*")}
    elif "accuracy" in names:
        assert names["accuracy"] > 0.5  # chance: 1/3


def test_a_loader_and_a_scheduler_as_by_autograd() -> None:
    def trained(make):
        model = network()
        optimiser = torch.optim.SGD(model.parameters(), 0.5)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
        gradient, drawn_by = make(model), torch.Generator().manual_seed(2)
        loader = DataLoader(TensorDataset(X, Y), 8, shuffle=True, generator=drawn_by)
        for _ in range(3):
            for x, y in loader:
                optimiser.zero_grad()
                gradient(x, y)
                optimiser.step()
            scheduler.step()
        return copies(model)

    expected = trained(by_autograd)
    exact = trained(lambda model: Backpropagation(model, cross_entropy))
    torch.testing.assert_close(exact, expected)
    start = copies(network())
    found = trained(lambda model: NodePerturbation(model, cross_entropy, sigma=1e-3))
    ours, theirs = (
        torch.cat([(b - a).flatten() for a, b in zip(start, end, strict=True)])
        for end in (found, expected)
    )
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.5


def test_clipping_keeps_the_direction() -> None:
    model = network()
    NodePerturbation(model, cross_entropy)(X, Y)
    before = torch.cat([g.flatten() for g in gradients(model)])
    total = nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
    after = torch.cat([g.flatten() for g in gradients(model)])
    torch.testing.assert_close(total, before.norm())
    torch.testing.assert_close(after.norm(), torch.tensor(1e-2), rtol=1e-3, atol=0)
    torch.testing.assert_close(after / after.norm(), before / before.norm())


def test_an_average_of_the_weights_is_the_closed_form() -> None:
    model = network()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    estimator = NodePerturbation(model, cross_entropy)
    optimiser = torch.optim.SGD(model.parameters(), 0.5)
    seen = []
    for x, y in zip(X.split(6), Y.split(6), strict=True):
        optimiser.zero_grad()
        estimator(x, y)
        optimiser.step()
        average.update_parameters(model)
        seen.append(copies(model))
    last = len(seen) - 1
    shares = [0.8**last, *(0.2 * 0.8 ** (last - t) for t in range(1, last + 1))]
    expected = [
        sum(s * p for s, p in zip(shares, each, strict=True)) for each in zip(*seen, strict=True)
    ]
    torch.testing.assert_close(copies(average.module), expected)


def test_groups_move_with_their_own_rates() -> None:
    model = network()
    groups = [
        {"params": model[0].parameters(), "lr": 0.0},
        {"params": [model[2].weight], "lr": 0.1},
        {"params": [model[2].bias], "lr": 0.7},
    ]
    optimiser, start = torch.optim.SGD(groups), copies(model)
    NodePerturbation(model, cross_entropy)(X, Y)
    optimiser.step()
    rates = (0.0, 0.0, 0.1, 0.7)
    moved = [p - r * g for p, r, g in zip(start, rates, gradients(model), strict=True)]
    assert all(g.norm() > 0 for g in gradients(model))
    torch.testing.assert_close(copies(model), moved)


@pytest.mark.parametrize("rule", ["bp", "anp", "np"])
def test_two_halves_give_the_sum_of_their_gradients(rule: str) -> None:
    """Half the sum is the estimate of the whole batch, with the same noise in every row."""

    def estimator(model):
        if rule == "bp":
            return Backpropagation(model, cross_entropy)
        return NodePerturbation(model, cross_entropy, rule, noise=every)

    def gradient(*batches):
        model = network()
        estimate = estimator(model)
        for part in batches:
            estimate(X[part], Y[part])
        return gradients(model)

    one, other = slice(0, 12), slice(12, 24)
    both = gradient(one, other)
    torch.testing.assert_close(
        both, [a + b for a, b in zip(gradient(one), gradient(other), strict=True)]
    )
    whole = gradient(slice(None))
    torch.testing.assert_close([g / 2 for g in both], whole, rtol=1e-4, atol=1e-5)
    if rule == "bp":
        model = network()
        by_autograd(model)(X, Y)
        torch.testing.assert_close(whole, gradients(model))


@pytest.mark.filterwarnings("ignore")
def test_the_recipe_for_lightning_equals_a_plain_loop_and_continues(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    names: dict = {"__name__": "page"}
    (setup,), (block,) = SECTIONS["The loop"], SECTIONS["Lightning"]
    exec(compile(setup, "page", "exec"), names)
    exec(compile(block, "page", "exec"), names)
    batches = DataLoader(TensorDataset(X, Y), 8)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    trainer = lightning.Trainer(max_epochs=2, **quiet)
    trainer.fit(names["Perturbed"](model := network()), batches)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    again = names["Perturbed"](other := network())
    more = lightning.Trainer(max_epochs=4, **quiet)
    more.fit(again, batches, ckpt_path=tmp_path / "run.ckpt", weights_only=False)
    by_hand = network()
    optimiser = torch.optim.Adam(by_hand.parameters(), 1e-2)
    estimator, halfway = NodePerturbation(by_hand, cross_entropy), None
    for epoch in range(4):
        for x, y in batches:
            optimiser.zero_grad()
            estimator(x, y)
            optimiser.step()
        halfway = copies(by_hand) if epoch == 1 else halfway
    assert all(map(torch.equal, halfway, copies(model)))
    assert all(map(torch.equal, copies(by_hand), copies(other)))


@pytest.mark.filterwarnings("ignore")
def test_accelerate_equals_a_plain_loop() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator, batches = accelerate.Accelerator(cpu=True), DataLoader(TensorDataset(X, Y), 8)

    def trained(prepare):
        model = network()
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        prepared, optimiser, loader = prepare(model, optimiser, batches)
        estimator = NodePerturbation(accelerator.unwrap_model(prepared), cross_entropy)
        for x, y in loader:
            optimiser.zero_grad()
            estimator(x, y)
            optimiser.step()
        return copies(model)

    assert all(map(torch.equal, trained(accelerator.prepare), trained(lambda *parts: parts)))
