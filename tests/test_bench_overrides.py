"""`noisynets bench SUITE --set NAME=VALUE`: settings of a suite that the command line overrides."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisynets.bench import read_suite
from noisynets.cli import benchmarks, main
from noisynets.cli.overrides import overrides
from noisynets.core.errors import InputError

SUITE = """
rules = ["anp", "danp", "bp"]
seeds = [0]
[search]
candidates = 1
[settings]
task = "tiny"
system = "mlp"
hidden = [8]
epochs = 1
[[case]]
name = "one"
"""


def test_values_have_the_types_of_their_settings() -> None:
    found = overrides(["lr=1", "hidden=[4,2]", "env=a=1"])
    assert found == {"lr": 1, "hidden": [4, 2], "env": ["a=1"]}
    assert overrides(["task=folder:a b", 'init="he"', "sigma=auto", "test=false"]) == {
        "task": "folder:a b",
        "init": "he",
        "sigma": "auto",
        "test": False,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr", "must be NAME=VALUE"),
        ("widht=8", "unknown setting 'widht': did you mean 'width'?"),
        ("lr=high", "the value has the wrong type"),
        ("width=6.5", "the value has the wrong type"),
        ("test=1", "the value has the wrong type"),
        ("seed=3", "give --seeds"),
        ("rule=bp", "give --rules"),
    ],
)
def test_what_cannot_be_set_is_said_in_a_line(text, expected, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", "smoke", "--set", text])
    found = capsys.readouterr().err
    assert end.value.code == 2 and expected in found and found.count("\n") == 1


@given(st.text(max_size=20))
def test_any_text_is_a_setting_or_refused(text: str) -> None:
    try:
        assert len(overrides([text])) == 1
    except InputError:
        pass
    with pytest.raises(InputError):
        overrides([text, text])


def test_settings_are_overridden_in_all_cases_where_rules_use_them(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SUITE)
    suite = read_suite(str(tmp_path / "mine.toml"), overrides(["hidden=4", "decor_lr=0.125"]))
    found = {entry.rule: entry.config for entry in suite.entries}
    assert all(config.hidden == (4,) for config in found.values())
    assert {rule: config.decor_lr for rule, config in found.items()} == {
        "anp": 0,
        "danp": 0.125,
        "bp": 0,
    }


def test_the_option_may_be_repeated_and_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SUITE)
    seen = []

    def compare(chosen, path, **settings):
        seen.append((chosen, path, settings["command"]))
        path.mkdir(parents=True)
        (path / "results.md").touch()

    monkeypatch.setattr(benchmarks, "compare", compare)
    main(["bench", "mine.toml", "--set", "hidden=4", "--set", "batch_size=7", "--rules", "bp"])
    ((suite, path, command),) = seen
    assert path == Path("runs/bench/mine-hidden-4-batch_size-7")
    assert {(e.config.hidden, e.config.batch_size) for e in suite.entries} == {((4,), 7)}
    assert command == "noisynets bench mine.toml --set hidden=4 batch_size=7"
