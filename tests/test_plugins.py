"""Parts from outside the package: one file and one call each, found through an entry point."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import final, same

from noisynets import cli
from noisynets.core.errors import InputError
from noisynets.core.registry import Registry
from noisynets.core.settings import SETTINGS
from noisynets.run import plugins
from noisynets.run.folder import RunFolder
from noisynets.run.session import build
from noisynets.systems.catalogue import SYSTEMS

PLUGIN = Path(__file__).parent / "plugin"
TINY = ("--hidden", "6", "--epochs", "1", "--batch-size", "50", "--device", "cpu")

PARTS = {
    "rule": "tiny --system mlp --rule toy-rule",
    "feedback": "tiny --system mlp --rule toy-feedback",
    "effect": "tiny --system mlp --device-preset toy-device --rule anp",
    "unit": "tiny --system toy-ternary-mlp",
    "neuron": "tiny --system lif --neuron toy-neuron --steps 3",
    "data": "toy-task --system mlp",
    "architecture": "tiny --system noisy-toy-net",
    "option": "tiny --system wobbly-mlp --wobble 0.3",
}
"""The file of a part in the plug-in, and the command line that uses it."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """The plug-in package, as if it were installed; what it registers is removed afterwards."""
    before = {kind: dict(registry) for kind, registry in plugins.REGISTRIES.items()}
    monkeypatch.syspath_prepend(str(PLUGIN))
    plugins.load_plugins.cache_clear()
    yield
    plugins.load_plugins.cache_clear()
    for kind, registry in plugins.REGISTRIES.items():
        for name in registry.keys() - before[kind].keys():
            del registry[name]


def call(*words: str) -> int:
    try:
        cli.main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_plug_in_is_trained_resumed_and_described(
    part: str, installed, tmp_path: Path, capsys
) -> None:
    """The loss falls or stays finite, and the same command gives the same bits."""
    finals = []
    for name in ("one", "two"):
        out = tmp_path / name
        assert call("train", *PARTS[part].split(), *TINY, "--out", str(out)) == 0
        finals.append(final(RunFolder(out)))
    assert same(*finals) and math.isfinite(float(finals[0][1][0]["train_loss"]))
    start = list(build(RunFolder(tmp_path / "one").config()).system.state_dict().values())
    trained = list(finals[0][0]["system"].values())
    assert not all(torch.equal(a, b) for a, b in zip(start, trained, strict=True))
    (tmp_path / "one" / "summary.json").unlink()
    assert call("resume", str(tmp_path / "one")) == 0
    capsys.readouterr()


def test_an_option_of_a_plug_in_is_a_setting_like_any_other(
    installed, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "run"
    assert call("train", *PARTS["option"].split(), *TINY, "--out", str(out)) == 0
    assert json.loads((out / "config.json").read_text())["wobble"] == 0.3
    config = RunFolder(out).config()
    assert config.option("wobble") == 0.3
    assert [m.height for m in build(config).system.modules() if hasattr(m, "height")] == [0.3]
    capsys.readouterr()
    for words, expected in (
        (("--help-all",), "Height of the wobble. (default: 0.1)"),
        (("--help", "--system", "wobbly-mlp"), "--wobble FLOAT"),
    ):
        assert call("train", *words) == 0
        assert expected in " ".join(capsys.readouterr().out.split())
    assert call("train", "--help") == 0
    assert "--wobble" not in capsys.readouterr().out
    for words, expected in (
        (("--system", "wobbly-mlp", "--wobble", "-1"), "--wobble -1 must be finite and not neg"),
        (("--system", "mlp", "--wobble", "0.3"), "--wobble 0.3: mlp has no such part"),
        (("--woble", "0.3"), "unknown option --woble: did you mean --wobble?"),
    ):
        assert call("train", "tiny", *words) == 2
        assert expected in capsys.readouterr().err
    suite = tmp_path / "wobbles.toml"
    suite.write_text(
        '[[case]]\nname = "a"\ntask = "tiny"\nrules = ["anp"]\nsystem = "wobbly-mlp"\nwobble = "b"'
    )
    assert call("bench", str(suite)) == 2
    assert "wobble = 'b' has the wrong type" in capsys.readouterr().err


def test_settings_of_a_plug_in_that_is_gone_are_named(installed, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    assert call("train", *PARTS["option"].split(), *TINY, "--out", str(out)) == 0
    capsys.readouterr()
    del SETTINGS["wobble"]
    assert call("resume", str(out)) == 2
    assert "unknown setting 'wobble'" in capsys.readouterr().err


def test_an_installed_plug_in_is_found_and_a_broken_one_is_named_in_a_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[noisynets.plugins]\nbad = no_such_module:plug_in\n")
    paths = [str(PLUGIN), str(tmp_path), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "noisynets.cli", "list"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(f" toy-{part} " in done.stdout for part in ("rule", "device", "ternary", "task"))
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("noisynets: plug-in 'bad' (no_such_module:plug_in) cannot be loaded")


def test_every_family_is_on_every_architecture_as_soon_as_it_is_registered(installed) -> None:
    assert "toy-ternary-conv" not in SYSTEMS
    assert plugins.load_plugins() == ()
    assert {"toy-ternary-conv", "toy-net", "lif-toy-net"} <= set(SYSTEMS)


def test_a_name_is_taken_once_and_unknown_kinds_are_named() -> None:
    registry = Registry("colour", {"red": 1})
    with pytest.raises(InputError, match="colour 'red' is already registered"):
        registry.register(2, name="red")
    with pytest.raises(InputError, match="give it a name"):
        registry.register(2)
    with pytest.raises(InputError, match="unknown kind of part 'nuron': did you mean 'neuron'"):
        plugins.register("nuron", 1, name="mine")
