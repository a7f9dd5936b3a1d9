"""`noisynets show RUN`: which examples are looked at, and what is drawn of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import TASK, config, run, tiny_task
from torch import nn

from noisynets.cli import main
from noisynets.core.decorrelation import DecorrelatedLinear
from noisynets.diagnose.images import coloured, first_filters, has_pictures, picture
from noisynets.diagnose.predictions import Predictions, judged_part, predictions
from noisynets.diagnose.vision_picture import draw_confusion, draw_mistakes
from noisynets.run.data import load_data
from noisynets.run.evaluate import evaluate
from noisynets.run.train import open_session, open_trained
from noisynets.tasks.data import NMSE, TASKS, Examples


def made_up(n: int = 40, classes: int = 4) -> Predictions:
    drawn = torch.Generator().manual_seed(5)
    labels = torch.randint(classes - 1, (n,), generator=drawn)  # none of the last class
    predicted = torch.randint(classes, (n,), generator=drawn)
    names = tuple(map(str, range(classes)))
    return Predictions("test", labels, predicted, torch.rand(n, generator=drawn), names)


def test_confusion_and_accuracy_by_class_are_those_of_a_plain_loop() -> None:
    found = made_up()
    counts = [[0] * 4 for _ in range(4)]
    for true, predicted in zip(found.labels.tolist(), found.predicted.tolist(), strict=True):
        counts[true][predicted] += 1
    assert found.confusion.tolist() == counts
    by_class = [row[i] / sum(row) if sum(row) else None for i, row in enumerate(counts)]
    assert found.by_class == by_class and by_class[-1] is None
    assert found.accuracy == pytest.approx(sum(counts[i][i] for i in range(4)) / 40)


def test_the_worst_mistakes_are_wrong_and_in_the_order_of_their_losses() -> None:
    found = made_up()
    pairs = zip(found.labels.tolist(), found.predicted.tolist(), strict=True)
    wrong = [i for i, (true, predicted) in enumerate(pairs) if true != predicted]
    assert found.worst(1000) == sorted(wrong, key=lambda i: -float(found.losses[i]))
    assert found.worst(3) == found.worst(1000)[:3]


def test_predictions_give_the_loss_and_the_accuracy_of_eval(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", system="noisy-mlp", epochs=1)
    _, val_set = load_data(folder.config())
    found = predictions(open_session(folder), "validation", val_set)
    loss, score = evaluate(open_session(folder), val_set)
    assert (float(found.losses.mean()), found.accuracy) == pytest.approx((loss, score))


@pytest.mark.parametrize(
    ("settings", "part", "n"),
    [
        ({}, "validation", None),
        ({"final_fit": True}, "test", 300),
        ({"final_fit": True, "test": False}, "training", 300),
    ],
)
def test_the_test_set_is_read_only_where_the_run_has_read_it(settings, part, n) -> None:
    name, examples = judged_part(config(**settings))
    assert name == part and (n is None or len(examples) == n)


def test_filters_are_the_rows_that_read_pixels() -> None:
    linear = nn.Linear(48, 5)
    found = first_filters(nn.Sequential(nn.Flatten(), linear), (3, 4, 4), most=2)
    rows = sorted(linear.weight.norm(dim=1).topk(2).indices.tolist())
    torch.testing.assert_close(found.weights, linear.weight[rows].detach().view(2, 3, 4, 4))
    assert found.of == 5
    conv = nn.Conv2d(1, 6, 3)
    found = first_filters(nn.Sequential(nn.PReLU(), conv, nn.Conv2d(6, 1, 3)), (1, 8, 8))
    torch.testing.assert_close(found.weights, conv.weight.detach())
    assert found.name == "1.weight"
    assert first_filters(nn.Linear(4, 2), (4,)) is None
    assert first_filters(nn.Linear(4, 2), (1, 8, 8)) is None


def test_filters_of_a_decorrelated_layer_give_its_output() -> None:
    layer = DecorrelatedLinear(nn.Linear(16, 3, bias=False), 16)
    layer.R.copy_(torch.randn(16, 16))
    found = first_filters(nn.Sequential(nn.Flatten(), layer), (1, 4, 4))
    x = torch.randn(7, 1, 4, 4)
    expected = layer(x.flatten(1)).detach()
    torch.testing.assert_close(x.flatten(1) @ found.weights.flatten(1).T, expected)


def test_colours_of_filters_and_pictures() -> None:
    grey = coloured(torch.tensor([[[-2.0, 0.0, 2.0]]]))
    assert grey[0, 1].tolist() == [1, 1, 1]
    assert grey[0, 0].argmax() == 2 and grey[0, 2].argmax() == 0
    assert torch.equal(coloured(torch.zeros(3, 2, 2)), torch.full((2, 2, 3), 0.5))
    bytes_ = Examples(torch.full((1, 1, 2, 2), 51, dtype=torch.uint8), torch.zeros(1))
    torch.testing.assert_close(picture(bytes_, 0), torch.full((1, 2, 2), 0.2))
    assert not has_pictures((2, 4, 4)) and has_pictures((3, 4, 4))


@pytest.mark.pictures
def test_show_draws_a_run(tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "run", epochs=1)
    main(["show", str(folder.path), "--out", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    names = ("confusion.png", "mistakes.png", "filters.png")
    assert printed[1:] == [str(tmp_path / name) for name in names]
    for name in names:
        with Image.open(tmp_path / name) as image:
            low, high = image.convert("L").getextrema()
            assert image.width > 400 and low < 100 < 250 < high


@pytest.mark.pictures
def test_show_uses_the_best_weights_and_the_names_of_classes(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    named = tuple(f"kind {i}" for i in range(TASK.classes))
    monkeypatch.setitem(TASKS, "tiny", replace(TASK, labels=named))
    up_and_down = {"lr": 0.05, "epochs": 6, "rule": "bp"}  # the validation score
    folder = run(tmp_path / "run", keep="best", **up_and_down)
    summary = folder.summary()
    assert summary is not None and summary["epoch"] < 6  # else nothing is tested here
    main(["show", str(folder.path)])
    shown = f"validation accuracy {summary['val_accuracy']:.4f}"
    assert capsys.readouterr().out.startswith(shown)
    session = open_trained(folder)
    found = predictions(session, *judged_part(session.config))
    assert found.names == named
    (index,) = found.worst(1)
    assert found.mistake(index) == (named[found.labels[index]], named[found.predicted[index]])


@pytest.mark.pictures
def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    """Matplotlib has no formula for the first, and refuses to draw it as one."""
    found = replace(made_up(classes=3), names=(r"$\bad$", "$0 to $1", "c_d, e"))
    examples = Examples(torch.rand(40, 1, 4, 4), found.labels)
    draw_confusion(tmp_path / "confusion.png", "folder:$a$", found)
    draw_mistakes(tmp_path / "mistakes.png", r"folder:$\bad$", found, examples)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN", "--bits", "2"], "--bits: only of a system"),
        (["RUN", "--out", "nowhere"], "--out nowhere: is no folder"),
        (["lif", "--trust"], "--trust: only of a run"),
        (["nowhere"], "unknown run folder or system 'nowhere'"),
    ],
)
def test_show_refuses_in_a_line(words, message, tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "run", epochs=1) if "RUN" in words else None
    with pytest.raises(SystemExit, match="2"):
        main(["show", *(str(folder.path) if word == "RUN" else word for word in words)])
    assert message in capsys.readouterr().err


def test_show_needs_classes_and_a_checkpoint(tmp_path: Path, monkeypatch, capsys) -> None:
    def values(part: str, folder: Path | None) -> Examples:
        found = tiny_task(part, folder)
        return Examples(found.x, found.x.flatten(1)[:, :3])

    monkeypatch.setitem(TASKS, "tiny", replace(TASK, load=values, measure=NMSE))
    folder = run(tmp_path / "run", epochs=1)
    for message in ("which has no classes", "no checkpoint yet"):
        with pytest.raises(SystemExit, match="2"):
            main(["show", str(folder.path)])
        assert message in capsys.readouterr().err
        folder.checkpoint.unlink(missing_ok=True)
