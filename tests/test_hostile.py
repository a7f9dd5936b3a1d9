"""Whatever is given to a setting, the command line trains or refuses in one line.

NOISYNETS_HOSTILE=all tries every value on one system that uses the setting, and some values on all
such systems; without it some values are tried on one system.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli import call

from noisynets.cli.parser import parsed
from noisynets.core.settings import Option
from noisynets.core.values import declared, options
from noisynets.run.settings import Config
from noisynets.run.settings.consumers import named, refusals

NUMBERS = [
    *("-1", "nan", "inf", "1e300", "5e-324", "1e38", "10000000000000000", "9" * 25),
    *("0", "1", "-inf", "1e-3", "-1e-3", "1e5", "1e38", "1e308", "1e-37", "1e-300"),
    *("100000", "1000000000", "9" * 5000, "0x10", "1_0", "１２", "None", "True"),
]
WORDS = [
    "",
    "a\nb",
    "--",
    "../" * 2000,
    " ",
    "x",
    "\x1b[2J",
    "\udcff",
    "%s",
    "{0}",
    "-",
    "Ω" * 300,
    "'",
]
EVERYTHING = os.environ.get("NOISYNETS_HOSTILE") == "all"
SOME, ALL = NUMBERS[:8] + WORDS[:4], NUMBERS + WORDS
SYSTEMS = {
    "mlp": "--system mlp",
    "decorrelated": "--system mlp --rule danp",
    "spiking": "--system noisy-lif --steps 2",
    "escaping": "--system lif --firing escape --steps 2",
    "quantised": "--system quantised-mlp",
    "bernoulli": "--system bernoulli-mlp",
    "analog": "--system analog-mlp",
    "box": "--system numpy-box",
    "process": "--system process-box",
    "weights": "--system mlp --rule spsa",
}
"""Systems and rules that together use every setting of training on examples."""
SHORT = "--hidden 4 --epochs 1 --batch-size 100"
CODES = {0, 2, 3, 130}
ENDLESS = {("epochs", "100000"), ("epochs", "1000000000")}
"""What is accepted, and takes as long as it says."""


def suits(option: Option, system: str) -> bool:
    """True if a command line uses a setting."""
    return not any(refusals(option, named(parsed(options(Config), SYSTEMS[system].split()))))


def cases() -> Iterator[tuple[str, str, list[str]]]:
    """Setting, system and values."""
    for name, option in declared(Config).items():
        users = [system for system in SYSTEMS if suits(option, system)]
        first = (users or ["mlp"])[0]  # "process" starts a process for each value
        yield name, first, ALL if EVERYTHING else SOME[::4] if first == "process" else SOME
        for system in users[1:] if EVERYTHING else ():
            if system != "process":  # starts a process each time
                yield name, system, SOME


@pytest.mark.parametrize(("name", "system", "values"), list(cases()))
def test_any_value_of_a_setting_trains_or_is_refused_in_one_line(
    name: str, system: str, values: list[str], tmp_path: Path, capsys
) -> None:
    """A traceback would be raised here."""
    option, own = declared(Config)[name], SYSTEMS[system].split()
    for i, value in enumerate(values):
        if (name, value) in ENDLESS:
            continue
        words = [value] if option.setting.positional else ["tiny", f"{option.flag}={value}"]
        code = call("train", *SHORT.split(), *own, *words, "--out", str(tmp_path / str(i)))
        lines = [line for line in capsys.readouterr().err.strip().split("\n") if line]
        assert code in CODES and len(lines) <= 2, (words, code, lines)
        if code:
            assert lines[-1].startswith("noisynets: ") and lines[-1].isprintable(), (words, lines)
