"""Weights under the names of a plain network: `export`, `--init-from`; and `predict`."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_own_files import FAST, arrays, flat
from tiny import config, run
from torch import nn

from noisynets.cli import main
from noisynets.core.errors import InputError
from noisynets.run.session import build
from noisynets.run.settings import Config, resolve
from noisynets.run.train import open_trained
from noisynets.run.transfer import begun, plain_state, read_weights, take_


def plain() -> nn.Module:
    """The network `mlp` of the tiny task, without noisynets."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3))


@pytest.mark.parametrize(
    "settings",
    [
        {"system": "mlp"},
        {"system": "noisy-mlp", "noise_during": "training"},
        {"system": "mlp", "rule": "danp", "decor_lr": 0.01, "demean": True},
        {"system": "noisy-mlp", "rule": "danp", "noise_during": "training"},
        {"system": "analog-mlp", "noise_during": "training"},
    ],
    ids=str,
)
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_exported_weights_compute_the_same_in_plain_torch(settings, ending, tmp_path) -> None:
    folder = run(tmp_path / "run", **settings | {"epochs": 1, "slope": 0.2})
    file = tmp_path / f"weights{ending}"
    main(["export", str(folder.path), str(file), "--to", "torch"])
    model = plain()
    model.load_state_dict(
        load_file(file) if ending == ".safetensors" else torch.load(file, weights_only=True)
    )
    system = open_trained(folder).system.eval()
    x = torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(x), system(x), atol=1e-5)


def test_a_decorrelated_convolution_is_folded() -> None:
    session = build(resolve(Config(system="conv", rule="danp", demean=True, hidden=(2, 3))))
    for module in session.decorrelations:
        module.R.add_(0.1 * torch.randn(module.R.shape))
        module.mean.normal_()
    model = build(resolve(Config(system="conv", rule="bp", hidden=(2, 3)))).system
    model.load_state_dict(plain_state(session.system))
    x = torch.randn(5, 1, 28, 28)
    assert torch.allclose(model(x), session.system.eval()(x), atol=1e-4)


SYSTEMS = ("mlp", "noisy-mlp", "analog-mlp", "sign-mlp", "lif", "noisy-lif")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("rule", ["mirrored", "danp"])
def test_a_plain_state_goes_into_every_form_and_back(system, rule, tmp_path: Path) -> None:
    model = plain()
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    session = begun(config(system=system, rule=rule, init_from=str(tmp_path / "plain.pt")))
    found = plain_state(session.system)
    assert found.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    first = run(tmp_path / "a", system="mlp", keep="best")
    second = begun(config(system="noisy-mlp", init_from=str(first.path), seed=1))
    expected = plain_state(open_trained(first).system)
    for name, tensor in plain_state(second.system).items():
        assert torch.equal(tensor, expected[name])
    trained = run(tmp_path / "b", system="noisy-mlp", init_from=str(first.path), epochs=1)
    assert trained.config().init_from == str(first.path)
    (first.path / "checkpoint.safetensors").unlink()  # is not needed to resume
    (tmp_path / "b" / "summary.json").unlink()
    main(["resume", str(trained.path)])


def test_other_names_are_matched_by_their_order() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(16, 8), nn.Linear(8, 3)

    model, session = Named(), build(config(system="noisy-mlp"))
    take_(session.system, model.state_dict(), "model")
    assert torch.equal(plain_state(session.system)["3.bias"], model.second.bias)


@pytest.mark.parametrize(
    "system", ["resnet8-bn", "mixer", "vit", "noisy-vit", "lif-conv-gn", "rlif"]
)
def test_every_architecture_is_taken_and_put_back(system: str) -> None:
    one, other = (build(resolve(Config(system=system, rule="bp", seed=seed))) for seed in (0, 1))
    state = plain_state(one.system)
    take_(other.system, state, "one")
    assert state and all(torch.equal(state[n], t) for n, t in plain_state(other.system).items())
    assert len(state) >= len(list(one.system.parameters()))


def weights(path: Path, **changes: torch.Tensor) -> str:
    torch.save(plain().state_dict() | changes, path)
    return str(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"1.weight": torch.zeros(9, 16)}, "1.weight has the shape (9, 16), in the system (8, 16)"),
        ({"5.weight": torch.zeros(1)}, "has '5.weight', which the system does not have"),
        ({"1.bias": torch.full((8,), torch.nan)}, "contains NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, expected, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        begun(config(init_from=weights(tmp_path / "w.pt", **change)))
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    (tmp_path / "no.safetensors").write_bytes(b"no")
    (tmp_path / "no.txt").write_bytes(b"no")
    for name, words in {
        "evil.pt": "no file of tensors alone",
        "list.pt": "is no state dict",
        "no.safetensors": "cannot be read",
        "no.txt": "is none of",
        "gone.pt": "No such file",
        ".": "no run folder",
    }.items():
        with pytest.raises(InputError, match=words) as error:
            read_weights(tmp_path / name)
        assert "\n" not in str(error.value)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_pictures_and_rows_are_predicted(tmp_path: Path, capsys) -> None:
    folder = flat(tmp_path / "pictures")
    run_of = str(tmp_path / "run")
    main(["train", f"folder:{folder}", "--out", run_of, "--system", "mlp", *FAST, "--lr", "0.02"])
    out = tmp_path / "out.csv"
    main(["predict", run_of, str(folder / "dark"), "--out", str(out)])
    assert "predictions for 10 inputs" in capsys.readouterr().out
    rows = table(out)
    assert [row["input"] for row in rows] == [f"{i}.png" for i in range(10)]
    assert {row["prediction"] for row in rows} <= {"dark", "bright"}
    for row in rows:
        shares = {c: float(row[f"probability of {c}"]) for c in ("dark", "bright")}
        assert abs(sum(shares.values()) - 1) < 1e-5
        assert row["prediction"] == max(shares, key=lambda c: shares[c])


def test_values_are_predicted_in_their_own_units(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = 1000 + 50 * x[:, 0]
    np.savez(tmp_path / "data.npz", x=x, y=y)
    run_of = str(tmp_path / "run")
    words = ["--system", "mlp", "--rule", "bp", "--hidden", "16", "--epochs", "20", "--lr", "0.02"]
    task = f"arrays:{tmp_path / 'data.npz'}"
    main(["train", task, "--out", run_of, *words, "--batch-size", "20", "--device", "cpu"])
    main(["predict", run_of, str(tmp_path / "data.npz"), "--out", str(tmp_path / "out.npz")])
    found = np.load(tmp_path / "out.npz")
    assert np.abs(found["output"][:, 0] - y).mean() < 10


def test_a_table_without_targets_is_predicted(tmp_path: Path) -> None:
    data = arrays(tmp_path / "data.csv", "csv")
    main(["train", f"arrays:{data}", "--out", str(tmp_path / "run"), *FAST])
    lines = data.read_text().splitlines()
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    for file in (data, bare):
        main(
            [
                "predict",
                str(tmp_path / "run"),
                str(file),
                "--out",
                str(tmp_path / file.name[:2]) + ".csv",
            ]
        )
    a, b = table(tmp_path / "da.csv"), table(tmp_path / "ba.csv")
    assert len(a) == 20 and a[0].keys() == b[0].keys()


def test_a_task_of_the_package_predicts_arrays(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", epochs=1)
    x = np.random.default_rng(0).normal(size=(5, 1, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    main(["predict", str(folder.path), str(tmp_path / "x.npz"), "--out", str(tmp_path / "o.npz")])
    system = open_trained(folder).system.eval()
    found = np.load(tmp_path / "o.npz")
    assert np.allclose(found["output"], system(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    assert found["prediction"].tolist() == [str(i) for i in found["output"].argmax(1)]


@pytest.mark.parametrize(
    ("x", "out", "expected"),
    [
        (np.zeros((5, 3)), "o.csv", "needed are numbers (n, *(1, 4, 4))"),
        (np.full((5, 1, 4, 4), np.nan), "o.csv", "x contains NaN"),
        (np.zeros((5, 1, 4, 4)), "o.txt", "must end with .csv or .npz"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x, out, expected, tmp_path, capsys) -> None:
    folder = run(tmp_path / "run", epochs=1)
    np.savez(tmp_path / "x.npz", x=x)
    with pytest.raises(SystemExit) as end:
        main(["predict", str(folder.path), str(tmp_path / "x.npz"), "--out", str(tmp_path / out)])
    found = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and expected in found[-1] and not (tmp_path / out).exists()


@pytest.mark.parametrize("learned", ["classes", "values"])
def test_exported_weights_come_with_the_scaling_of_the_examples(learned, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(3, 5, (40, 4))
    y = np.arange(40) % 3 if learned == "classes" else x[:, :2] + random.normal(size=(40, 2))
    file, out = tmp_path / "a.npz", tmp_path / "run"
    np.savez(file, x=x, y=y)
    main(["train", f"arrays:{file}", "--system", "mlp", *FAST, "--out", str(out)])
    main(["export", str(out), str(tmp_path / "weights.pt")])
    main(["predict", str(out), str(file), "--out", str(tmp_path / "found.npz")])
    scale = np.load(tmp_path / "weights.scaling.npz")
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 2 + (y.ndim == 1))
    )
    model.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    found = model(torch.tensor((x - scale["mean"]) / scale["std"]).float()).detach().numpy()
    if learned == "values":
        found = found * scale["target_std"] + scale["target_mean"]
    assert np.allclose(found, np.load(tmp_path / "found.npz")["output"], atol=1e-4)


def test_the_scaling_of_channels_is_exported_and_none_without_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (30, 1, 4, 4), dtype=np.uint8)
    file, weights = tmp_path / "a.npz", tmp_path / "weights.pt"
    np.savez(file, x=x, y=np.arange(30) % 2)
    scaled = tmp_path / "weights.scaling.npz"
    for name, more, there in (("plain", [], False), ("scaled", ["--standardise"], True)):
        out = str(tmp_path / name)
        main(["train", f"arrays:{file}", "--system", "mlp", *FAST, "--out", out, *more])
        main(["export", out, str(weights)])
        assert scaled.exists() == there
    plain = str(tmp_path / "plain")
    with pytest.raises(SystemExit, match="2"):  # it would be taken for that of these weights
        main(["export", plain, str(weights)])
    found = np.load(scaled)
    main(["predict", out, str(file), "--out", str(tmp_path / "found.npz")])
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(0.2), nn.Linear(8, 2))
    model.load_state_dict(torch.load(weights, weights_only=True))
    given = torch.tensor((x / 255 - found["mean"]) / found["std"]).float()
    output = np.load(tmp_path / "found.npz")["output"]
    assert np.allclose(model(given).detach().numpy(), output, atol=1e-4)
