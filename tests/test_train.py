"""The loop: it learns, tests once, and stops where numbers lose their meaning."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import config, metrics, run, tiny_task

from noisynets.core.errors import Diverged, InputError
from noisynets.estimators.methods import METHODS
from noisynets.run.checkpoint import load_state
from noisynets.run.folder import create
from noisynets.run.session import Session, build
from noisynets.run.train import evaluate, open_session, threads, train
from noisynets.tasks.data import TASKS


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
    run(tmp_path / "blind", test=False)
    assert reads == ["train", "test", "train"]


def test_final_fit_trains_on_everything(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", final_fit=True)
    rows = metrics(folder)
    assert rows[0]["val_accuracy"] == "" and folder.summary()["val_accuracy"] is None
    assert folder.summary()["sample_forwards"] == 3 * 300 * 2


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


@pytest.mark.parametrize("system", ["mlp", "noisy-mlp"])
@pytest.mark.parametrize("rule", [rule for rule in METHODS if not METHODS[rule].needs_model])
def test_every_rule_learns_with_its_own_sigma(rule, system, tmp_path: Path) -> None:
    if system == "noisy-mlp" and rule.removeprefix("d") in ("np", "inp"):
        with pytest.raises(InputError, match="injected"):
            build(config(rule=rule, system=system))
        return
    epochs = 60 if METHODS[rule].perturbs == "weights" else 30
    summary = run(tmp_path / "run", rule=rule, system=system, epochs=epochs, lr=0.03).summary()
    chance, n = 1 / 3, 250
    assert summary["train_accuracy"] > chance + 3 * (chance * (1 - chance) / n) ** 0.5


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
    with pytest.raises(InputError, match="tiny train: input 7 contains NaN"):
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


@pytest.mark.parametrize(("every", "pairs"), [(1, 250), (2, 225), (4, 213)])
@pytest.mark.parametrize("rule", ["mirrored", "learned"])
def test_pairs_are_made_in_one_step_of_so_many(every: int, pairs: int, rule: str) -> None:
    """In each of the first 200 steps; of 50 more in one of `every`."""
    session = build(config(rule=rule, system="mlp", pairs_every=every))
    x, y = tiny_task("train", None).first(2).batch(slice(None), torch.float32)
    found = sum(session.step_(x, y, 0.5).sample_forwards for _ in range(250))
    assert found == 2 * (250 + pairs)
