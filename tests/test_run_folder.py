"""Run folders: what is in them, and what is refused."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from tiny import config, metrics, run

from noisynets import cli
from noisynets.core.errors import InputError
from noisynets.core.settings import Settings, setting
from noisynets.core.values import declared, read
from noisynets.run.checkpoint import load_state, save_state, write_atomically
from noisynets.run.folder import create
from noisynets.run.settings import Config
from noisynets.run.summary import columns
from noisynets.run.train import open_session, train


@pytest.mark.pictures
def test_the_run_folder_holds_what_is_promised(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", rule="danp")
    rows = metrics(folder)
    assert tuple(rows[0]) == columns("accuracy") and [r["epoch"] for r in rows] == ["1", "2", "3"]
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


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = {"x": torch.arange(20.0), "of": {3: [torch.tensor(True), None, 1.5, "tensor:"]}}
    save_state(path, state | {"of": {3: [torch.tensor(True), None, 1.5, "text"]}})
    data = path.read_bytes()
    assert load_state(path)["of"][3][1:] == [None, 1.5, "text"]
    with safe_open(path, framework="pt") as file:  # still an ordinary file of that library
        assert torch.equal(file.get_tensor("0"), state["x"])
    for at in range(len(data)):
        for bit in range(8) if at % 16 == 0 else [at % 8]:
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(InputError, match="the checkpoint is damaged"):
                load_state(path)


def test_a_checkpoint_without_a_checksum_is_refused(tmp_path: Path) -> None:
    """Version 0.2 wrote none, and drew other noise from the same seeds."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"0": torch.ones(2)}, metadata={"state": '{"dict": []}'}))
    with pytest.raises(InputError, match=r"a\.safetensors: .*it has no checksum; version 0\.2"):
        load_state(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"progress": {"epoch": "1"}}, "epoch = '1' is no number"),
        ({"progress": {"rows": []}}, "not one row of metrics per epoch"),
        ({"optimiser": {"param_groups": []}}, "param_groups|argument 2 is shorter|longer"),
        ({"meter": {"sums": torch.zeros(3)}}, "shape"),
        ({"system": {"extra": torch.zeros(1)}}, "extra"),
        ({"estimator": None}, "estimator|NoneType|not"),
    ],
    ids=["epoch", "rows", "groups", "meter", "weights", "estimator"],
)
def test_a_state_of_another_form_is_refused(change, words: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", epochs=1)
    state = load_state(folder.checkpoint)
    (name, value), *_ = change.items()
    state[name] = state[name] | value if isinstance(value, dict) else value
    save_state(folder.checkpoint, state)
    with pytest.raises(InputError, match=f"checkpoint.safetensors: .*does not fit.*({words})"):
        open_session(folder)


@pytest.mark.parametrize(
    "change",
    [
        *({"rule": "amp"}, {"epochs": "many"}, {"hidden": 3}, {"colour": "red"}),
        *({"device": "cuda"}, {"epochs": 1.5}, {"test": "no"}, {"lr": float("nan")}, {"seed": -1}),
        *({"lr": 10**400}, {"hidden": [8.5]}, {"env": [1]}, {"seed": None}, {"weight_seed": 3}),
    ],
    ids=lambda change: str(change)[:20],
)
def test_a_config_that_cannot_be_used_is_refused(change, tmp_path: Path) -> None:
    folder = create(tmp_path / "run", config())
    file = folder.path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match="config.json"):
        folder.config()
    for text, words in (("{", "cannot be read"), ("[]", "no table"), ('{"lr": 1}', "missing")):
        file.write_text(text)
        with pytest.raises(InputError, match=f"config.json: .*{words}"):
            folder.config()


OF_0_4 = """
adam_beta2 augment batch_size beta bits box box_timeout correction credit_over data_dir
decor_lr decor_rows decor_schedule decor_variant demean device device_preset device_seed
discount dtype encoder env epochs final_fit firing firing_noise freeze_hidden hidden init
intrinsic_noise loss_gradient lr membrane_noise neuron noise noise_during noise_over
optimiser output_scale physical product_dtype random_numbers readout resamples rule scaling
schedule seed sigma slope spread standardise steps system task temperature test threads
threshold train_examples verify
"""
"""Settings that config.json had in version 0.4."""


def test_settings_that_were_added_say_since_when() -> None:
    """Else runs of earlier versions could not be read: declare `since` for a new setting."""
    assert sorted(n for n, o in declared(Config).items() if not o.setting.since) == OF_0_4.split()


def test_a_config_of_an_earlier_version_has_the_defaults_of_what_was_added(tmp_path: Path) -> None:
    folder = create(tmp_path / "run", config())
    file = folder.path / "config.json"
    values = json.loads(file.read_text())
    since = {name: o.setting.since for name, o in declared(Config).items()}
    assert {"keep", "writes", "momentum"} <= {n for n, s in since.items() if s == "0.5"}
    assert since["lr"] == "" and since["reset"] == since["write_states"] == "0.6"
    for version in ("0.4", "0.5"):
        old = {name: value for name, value in values.items() if since[name] <= version}
        file.write_text(json.dumps(old))
        assert folder.config() == config()
    old = {name: value for name, value in values.items() if since[name] <= "0.4"}
    for lost in (old.keys() - {"lr"}, values.keys() - {"keep"}):  # of both it is damaged
        file.write_text(json.dumps({name: values[name] for name in lost}))
        with pytest.raises(InputError, match="config.json: .*: missing"):
            folder.config()


@dataclass(frozen=True)
class Grown(Settings):
    old: int = setting(1, "Of the first version.")
    later: int = setting(2, "Added.", since="0.9")
    latest: int = setting(3, "Added last.", since="0.10")


def test_a_file_lacks_what_was_added_after_one_version() -> None:
    assert read(Grown, {"old": 5}) == Grown(old=5)
    assert read(Grown, {"old": 5, "later": 6}) == Grown(old=5, later=6)
    assert read(Grown, {"old": 5, "later": 6, "latest": 7}) == Grown(old=5, later=6, latest=7)
    for values in ({"old": 5, "latest": 7}, {"later": 6}, {}):  # of no version
        with pytest.raises(InputError, match="missing"):
            read(Grown, values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test_accuracy": None}, "test_accuracy is no number"),
        ({"test_accuracy": "0.9"}, "test_accuracy is no number"),
        ({"train_accuracy": True}, "train_accuracy is no number"),
        ({"seconds": float("nan")}, "seconds is no finite number"),
        ({"sample_forwards": -1}, "sample_forwards is no finite number"),
        ({"diverged": 0}, "diverged is neither true nor false"),
        ({"rule": "bp"}, "its rule is not that of config.json"),
        ({"seed": "0"}, "its seed is not that"),
        ({"peak_memory_mb": []}, "peak_memory_mb is no number"),
        ({"spikes_per_step": {"a": "b"}}, "spikes_per_step is no table of numbers"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_a_summary_with_wrong_values_is_refused(change, words: str, tmp_path: Path) -> None:
    folder = create(tmp_path / "run", config())
    sound = {"test_accuracy": 0.5, "test_loss": 1.0, "val_accuracy": 0.5, "train_accuracy": 0.5}
    sound |= {"sample_forwards": 10, "seconds": 1.0, "peak_memory_mb": None, "task": "tiny"}
    sound |= {"system": "mlp", "rule": "mirrored", "seed": 0, "diverged": False, "later": 1}
    file = folder.path / "summary.json"
    file.write_text(json.dumps(sound))
    assert folder.summary() == sound  # names that are not known yet are ignored
    file.write_text(json.dumps(sound | change))
    with pytest.raises(InputError, match=f"summary.json: .*{words}.*: restore it, or remove it"):
        folder.summary()


def test_a_damaged_summary_or_table_of_metrics_is_refused(tmp_path: Path) -> None:
    folder = create(tmp_path / "run", config())
    (folder.path / "summary.json").write_text('{"test_acc')
    with pytest.raises(InputError, match="cannot be read"):
        folder.summary()
    (folder.path / "summary.json").unlink()
    (folder.path / "summary.json").mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        folder.summary()
    folder.write_metrics([dict.fromkeys(columns("accuracy"), 1)])
    file = folder.path / "metrics.csv"
    assert folder.metrics("accuracy") == [dict.fromkeys(columns("accuracy"), 1.0)]
    sound = file.read_text()
    for text in (
        "",
        "epoch\n1\n",
        f"{sound}1,2\n",
        f"{sound}a{',1' * 6}\n",
        sound[:-1],
        sound + '"',
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=r"metrics\.csv: cannot be read"):
            folder.metrics("accuracy")


def test_nothing_is_written_through_links(tmp_path: Path, monkeypatch) -> None:
    """Links stand at the names of all files of a run, and of the parts before they are whole."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = create(tmp_path / "run", config(epochs=1))
    names = ["checkpoint.safetensors", "metrics.csv", "curves.png", "diagnose.png", "summary.json"]
    for name in [*names, "diagnose.json"]:
        (folder.path / f".{name}.partial").symlink_to(precious)
        if name != "summary.json":
            (folder.path / name).symlink_to(precious if name != names[0] else "/nowhere")
    train(folder, progress_bar=False)
    cli.main(["diagnose", str(folder.path), "--trial-steps", "0"])
    assert precious.read_text() == "mine"
    for name in [*names, "diagnose.json"]:
        assert (folder.path / name).is_file() and not (folder.path / name).is_symlink()
        assert not (folder.path / f".{name}.partial").is_symlink()


def test_a_directory_at_the_name_of_a_file_is_named(tmp_path: Path) -> None:
    for name in ("a", ".b.partial"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        with pytest.raises(InputError, match="a directory is where a file is to be written"):
            write_atomically(tmp_path / name, b"new")
    os.mkfifo(tmp_path / ".c.partial")
    write_atomically(tmp_path / "c", b"new", b"er")
    assert (tmp_path / "c").read_bytes() == b"newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.partial", "a", "c"]


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
