"""The loop: bits survive interruption, divergence is caught, folders are whole."""

import csv
import itertools
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import noisynets.train as loop
from noisynets.checkpoint import load_state
from noisynets.config import Config, resolve
from noisynets.data import TASKS, Examples, Task
from noisynets.devices import AdditiveGaussian
from noisynets.errors import Diverged, InputError
from noisynets.methods import METHODS
from noisynets.models import SYSTEMS
from noisynets.run_folder import METRICS, RunFolder, create
from noisynets.session import Session, build
from noisynets.train import evaluate, open_session, threads, train


def tiny_task(part: str, folder: Path | None) -> Examples:
    """Which of three directions a 16-pixel picture points in, mostly."""
    generator = torch.Generator().manual_seed({"train": 1, "test": 2}[part])
    x = torch.randn(300, 1, 4, 4, generator=generator)
    return Examples(x, x.flatten(1)[:, :3].argmax(1))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("tiny", "for tests", (1, 4, 4), classes=3, load=tiny_task, validation=50)
    monkeypatch.setitem(TASKS, "tiny", task)


def config(**settings) -> Config:
    base = Config(task="tiny", system="mlp", hidden=(8,), epochs=3, batch_size=20, device="cpu")
    return resolve(replace(base, **settings))


def run(path: Path, **settings) -> RunFolder:
    folder = create(path, config(**settings))
    train(folder, progress_bar=False)
    return folder


def metrics(folder: RunFolder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder.path / "metrics.csv").read_text().splitlines()))


def final(folder: RunFolder) -> tuple[dict, list]:
    """The final state, and the metrics without the seconds."""
    state = load_state(folder.checkpoint)
    rows = metrics(folder)
    return state, [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


CASES = [
    *[{"rule": rule} for rule in METHODS],
    {"system": "noisy-mlp"},
    {"system": "conv", "hidden": (4, 6), "rule": "danp", "demean": True},
    {"system": "conv", "hidden": (4,), "intrinsic_noise": 0.1, "rule": "danp"},
    {"rule": "anp", "resamples": 3, "noise": "rademacher", "optimiser": "sgd", "dtype": "float64"},
]


@pytest.mark.parametrize("settings", CASES, ids=lambda s: "-".join(map(str, s.values())))
def test_an_interrupted_run_ends_with_the_same_bits(settings, tmp_path, monkeypatch) -> None:
    """Stopped in mid-epoch at random steps, with a checkpoint at every guard."""
    whole = run(tmp_path / "whole", **settings)
    monkeypatch.setattr(loop, "GUARD_STEPS", 5)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    folder = create(tmp_path / "broken", config(**settings))
    step_, calls = Session.step_, itertools.count()
    failing = random.Random(str(settings)).sample(range(30), 4)

    def unreliable(self, *args):
        if next(calls) in failing:
            raise KeyboardInterrupt
        return step_(self, *args)

    monkeypatch.setattr(Session, "step_", unreliable)
    stops = 0
    while folder.summary() is None:
        try:
            train(folder, progress_bar=False)
        except KeyboardInterrupt:
            stops += 1
    assert stops == 4
    assert same(final(whole), final(folder))
    assert folder.summary()["test_accuracy"] == whole.summary()["test_accuracy"]


def test_killed_at_any_moment_and_resumed_the_bits_are_the_same(tmp_path: Path) -> None:
    """SIGKILL, four times, at random moments of real runs on MNIST."""
    settings = "--epochs 3 --batch-size 100 --hidden 16 --threads 1 --seed 3".split()
    command = [sys.executable, "-m", "noisynets.cli"]
    start = time.perf_counter()
    subprocess.run(
        [*command, "train", *settings, "--out", str(tmp_path / "whole")],
        check=True,
        capture_output=True,
    )
    duration = time.perf_counter() - start
    broken, kills = tmp_path / "broken", 0
    first = [*command, "train", *settings, "--out", str(broken)]
    while not (broken / "summary.json").exists():
        begun = (broken / "config.json").exists()
        again = [*command, "resume", str(broken)] if begun else first
        process = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if kills < 4:
            time.sleep(random.uniform(0.3, 0.9) * duration)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
        else:
            _, error = process.communicate()
            assert process.returncode == 0, error
    assert same(final(RunFolder(tmp_path / "whole")), final(RunFolder(broken)))
    assert {p.name for p in tmp_path.iterdir()} == {"whole", "broken"}


def test_the_run_folder_holds_what_is_promised(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", rule="danp")
    rows = metrics(folder)
    assert tuple(rows[0]) == METRICS and [r["epoch"] for r in rows] == ["1", "2", "3"]
    assert int(rows[-1]["sample_forwards"]) == 3 * 250 * 2
    summary = json.loads((folder.path / "summary.json").read_text())
    assert {
        "test_accuracy", "val_accuracy", "train_accuracy", "sample_forwards", "seconds",
        "peak_memory_mb", "rule", "system", "seed", "diverged",
    } <= summary.keys()  # fmt: skip
    assert summary["val_accuracy"] == float(rows[-1]["val_accuracy"])
    assert folder.curves.read_bytes().startswith(b"\x89PNG")
    assert folder.config() == config(rule="danp")
    assert sorted(p.name for p in folder.path.iterdir()) == [
        "checkpoint.safetensors", "config.json", "curves.png", "metrics.csv", "summary.json",
    ]  # fmt: skip


def test_it_learns_and_the_checkpoint_tests_the_same(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", system="noisy-mlp", epochs=30, lr=1e-2)
    summary = folder.summary()
    assert summary["test_accuracy"] > 0.7  # chance is 1/3
    session = open_session(folder)
    again = evaluate(session, session.task.test(None))
    assert again == (summary["test_loss"], summary["test_accuracy"])


def test_the_test_set_is_read_once_and_only_at_the_end(tmp_path: Path, monkeypatch) -> None:
    reads: list[str] = []

    def watched(part, folder):
        reads.append(part)
        return tiny_task(part, folder)

    monkeypatch.setitem(TASKS, "tiny", replace(TASKS["tiny"], load=watched))
    run(tmp_path / "run")
    assert reads == ["train", "test"]
    train(create(tmp_path / "blind", config()), progress_bar=False, test=False)
    assert reads == ["train", "test", "train"]


def test_final_fit_trains_on_everything(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", final_fit=True)
    rows = metrics(folder)
    assert rows[0]["val_accuracy"] == "" and folder.summary()["val_accuracy"] is None
    assert folder.summary()["sample_forwards"] == 3 * 300 * 2


def test_rates_follow_their_schedules() -> None:
    session = build(config(rule="danp", lr=0.1, decor_lr=0.2, decor_schedule="constant"))
    x, y = torch.zeros(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])

    def rates(session: Session, done: float) -> tuple[float, float]:
        session.step_(x, y, done)
        return session.optimiser.param_groups[0]["lr"], session.decorrelations[0].rate

    assert rates(session, 0.0) == pytest.approx((0.1, 0.2))
    assert rates(session, 0.5) == pytest.approx((0.05, 0.2))
    assert rates(session, 1.0) == pytest.approx((0.0, 0.2))
    together = build(config(rule="danp", lr=0.1, decor_lr=0.2))
    assert rates(together, 1 / 3) == pytest.approx((0.075, 0.15))
    constant = build(config(rule="danp", lr=0.1, decor_lr=0.2, schedule="constant"))
    assert rates(constant, 1.0) == pytest.approx((0.1, 0.2))


def test_the_schedule_moves_within_an_epoch_and_the_order_between_them(tmp_path, monkeypatch):
    seen, step_ = [], Session.step_

    def watched(self, x, y, done):
        seen.append((done, x))
        return step_(self, x, y, done)

    monkeypatch.setattr(Session, "step_", watched)
    run(tmp_path / "run", epochs=2, batch_size=50)
    assert [done for done, _ in seen] == pytest.approx([i / 10 for i in range(10)])
    first, second = (torch.cat([x for _, x in seen[i : i + 5]]) for i in (0, 5))
    given = tiny_task("train", None).x[:250]
    for order in (first, second):
        assert not torch.equal(order, given)
        assert torch.equal(order.flatten(1).sort(0).values, given.flatten(1).sort(0).values)
    assert not torch.equal(first, second)


def test_validation_examples_are_the_last_and_not_trained_on() -> None:
    train_set, validation = TASKS["tiny"].training()
    whole = tiny_task("train", None)
    assert torch.equal(validation.x, whole.x[-50:]) and torch.equal(train_set.x, whole.x[:-50])


def test_evaluation_leaves_the_systems_mode_alone(tmp_path: Path) -> None:
    """A noise that heeds `training` must not be switched off by the loop."""
    session = build(config(system="noisy-mlp"))
    evaluate(session, TASKS["tiny"].test())
    assert all(module.training for module in session.system.modules())


def test_the_noises_of_a_run_are_independent() -> None:
    session = build(config(system="noisy-mlp", sigma=0.1))
    effects = [m for m in session.system.modules() if isinstance(m, AdditiveGaussian)]
    zeros = torch.zeros(20, 20)
    draws = [effect(zeros) for effect in effects] + [session.estimator.injection((20, 20), zeros)]
    assert len({tuple(z.flatten().tolist()[:5]) for z in draws}) == 3
    correlation = torch.corrcoef(torch.stack(draws).flatten(1))
    assert float((correlation - torch.eye(3)).abs().max()) < 0.25


@pytest.mark.parametrize("system", ["mlp", "noisy-mlp"])
@pytest.mark.parametrize("rule", METHODS)
def test_every_rule_learns_with_its_own_sigma(rule, system, tmp_path: Path) -> None:
    if system == "noisy-mlp" and rule.removeprefix("d") in ("np", "inp"):
        with pytest.raises(InputError, match="injected"):
            build(config(rule=rule, system=system))
        return
    summary = run(tmp_path / "run", rule=rule, system=system, epochs=60, lr=0.02).summary()
    chance, n = 1 / 3, 250
    assert summary["train_accuracy"] > chance + 3 * (chance * (1 - chance) / n) ** 0.5


def test_settings_reach_what_they_set() -> None:
    assert type(build(config(optimiser="sgd")).optimiser) is torch.optim.SGD
    assert type(build(config()).optimiser) is torch.optim.Adam
    session = build(config(rule="danp", demean=True, decor_variant="kappa", decor_rows=7))
    module = session.decorrelations[0]
    assert (module.demean, module.variant, module.rows) == (True, "kappa", 7)


@pytest.mark.parametrize(("hidden", "given", "expected"), [(8, 0, 1), (8, 2, 2), (60_000, 0, 2)])
def test_small_systems_take_one_thread_unless_told(hidden, given, expected) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads(build(config(hidden=(hidden,), threads=given))):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_data_that_cannot_be_learnt_from_is_refused_by_the_loop(tmp_path, monkeypatch) -> None:
    def broken(part, folder):
        examples = tiny_task(part, folder)
        examples.x[7, 0, 0, 0] = float("nan")
        return examples

    monkeypatch.setitem(TASKS, "tiny", replace(TASKS["tiny"], load=broken))
    with pytest.raises(InputError, match="tiny train: input 7 holds NaN"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "knob"),
    [
        ({"optimiser": "sgd", "lr": 1e6}, "lower --lr"),
        ({"rule": "danp", "decor_lr": 1e4}, "lower --decor-lr"),
    ],
)
def test_divergence_stops_with_the_last_good_checkpoint(settings, knob, tmp_path) -> None:
    folder = create(tmp_path / "run", config(**settings))
    with pytest.raises(Diverged, match=knob) as error:
        train(folder, progress_bar=False)
    assert error.value.exit_code == 3 and "\n" not in str(error.value)
    assert folder.summary()["diverged"] is True and folder.summary()["test_accuracy"] is None


@pytest.mark.parametrize("final_fit", [False, True])
def test_an_update_that_spoils_the_weights_last_is_not_saved(final_fit, tmp_path) -> None:
    """One step in all: the loss before it is fine, the weights after it are not."""
    settings = {"optimiser": "sgd", "lr": 1e30, "batch_size": 300, "epochs": 1}
    folder = create(tmp_path / "run", config(final_fit=final_fit, **settings))
    with pytest.raises(Diverged, match="lower --lr"):
        train(folder, progress_bar=False)
    assert folder.summary()["diverged"] is True
    state = load_state(folder.checkpoint)
    assert state["progress"]["epoch"] == 0  # the untrained weights are the last good ones
    assert all(v.isfinite().all() for v in state["system"].values() if v.is_floating_point())


@pytest.mark.parametrize("factor", [5, 20])
def test_a_loss_above_ten_times_its_start_is_divergence(factor, tmp_path, monkeypatch) -> None:
    folder, step_ = create(tmp_path / "run", config(batch_size=250)), Session.step_

    def worse(self, x, y, done):
        estimate = step_(self, x, y, done)
        return replace(estimate, loss=estimate.loss * (1 if done == 0 else factor))

    monkeypatch.setattr(Session, "step_", worse)
    if factor < 10:
        train(folder, progress_bar=False)
    else:
        with pytest.raises(Diverged, match="which started at"):
            train(folder, progress_bar=False)


def test_after_divergence_the_last_good_checkpoint_is_there(tmp_path, monkeypatch) -> None:
    folder, step_ = create(tmp_path / "run", config(optimiser="sgd", lr=0.01)), Session.step_

    def bad_luck(self, x, y, done):
        if self.progress.epoch == 2:
            self.config = replace(self.config, lr=1e6)
        return step_(self, x, y, done)

    monkeypatch.setattr(Session, "step_", bad_luck)
    with pytest.raises(Diverged, match="epoch 3"):
        train(folder, progress_bar=False)
    state = load_state(folder.checkpoint)
    assert state["progress"]["epoch"] == 2
    assert all(v.isfinite().all() for v in state["system"].values() if v.is_floating_point())
    assert len((folder.path / "metrics.csv").read_text().splitlines()) == 3


def test_checkpoints_that_are_truncated_or_foreign_are_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", epochs=1)
    data = folder.checkpoint.read_bytes()
    for cut in (0, 5, 100, len(data) // 2, len(data) - 1):
        folder.checkpoint.write_bytes(data[:cut])
        with pytest.raises(InputError, match="damaged"):
            open_session(folder)
    other = run(tmp_path / "other", epochs=1, hidden=(9,))
    folder.checkpoint.write_bytes(other.checkpoint.read_bytes())
    with pytest.raises(InputError, match="does not fit"):
        open_session(folder)


@pytest.mark.parametrize(
    "change",
    [{"rule": "amp"}, {"epochs": "many"}, {"hidden": 3}, {"colour": "red"}, {"device": "cuda"}],
    ids=str,
)
def test_a_config_that_cannot_be_used_is_refused(change, tmp_path: Path) -> None:
    folder = create(tmp_path / "run", config())
    file = folder.path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match="config.json"):
        folder.config()
    file.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        folder.config()


def test_a_damaged_summary_is_refused(tmp_path: Path) -> None:
    folder = create(tmp_path / "run", config())
    (folder.path / "summary.json").write_text('{"test_acc')
    with pytest.raises(InputError, match="cannot be read"):
        folder.summary()


def test_the_present_folder_will_do_if_it_is_empty(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert create(Path("."), config()).config() == config()


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    create(tmp_path / "mine", config())  # empty: fine
    with pytest.raises(InputError, match="not empty"):
        create(tmp_path / "mine", config())
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        create(tmp_path / "file", config())
    with pytest.raises(InputError, match="cannot be written"):
        create(tmp_path / "file" / "below", config())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_is_built_from_its_seed(system: str) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        return list(build(config(system=system, seed=seed)).system.parameters())

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert same(weights(1), weights(1)) and not same(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), before)  # the global stream is left alone


def test_initial_weights_have_the_stated_spread() -> None:
    net = build(config(hidden=(400, 300), output_scale=0.1)).system
    assert float(net[1].weight.detach().std()) == pytest.approx((2 / 16) ** 0.5, rel=0.05)
    assert float(net[3].weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert float(net[5].weight.detach().std()) == pytest.approx(0.1 * (2 / 300) ** 0.5, rel=0.1)
    assert all(not m.bias.any() for m in (net[1], net[3], net[5]))
