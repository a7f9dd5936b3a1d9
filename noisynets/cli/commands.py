"""The commands, and which of their options a help shows."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from noisynets.cli.benchmarks import BenchArguments, bench
from noisynets.cli.boxes import CheckArguments, check_box
from noisynets.cli.datasets import DataArguments, data
from noisynets.cli.diagnosis import DiagnoseArguments, diagnose
from noisynets.cli.listing import ListArguments, list_
from noisynets.cli.parser import Command, help_of, parsed
from noisynets.cli.reporting import ReportArguments, report
from noisynets.cli.runs import (
    EvalArguments,
    NeurobenchArguments,
    ResumeArguments,
    TrainArguments,
    configured,
    eval_,
    neurobench,
    resume,
    train,
)
from noisynets.cli.showing import ShowArguments, show
from noisynets.cli.texts import GenerateArguments, generate
from noisynets.cli.uses import (
    CompareArguments,
    ExportArguments,
    PredictArguments,
    compare,
    export,
    predict,
)
from noisynets.core.errors import InputError
from noisynets.core.registry import Registry
from noisynets.core.settings import Option
from noisynets.run.allocator import keep_freed
from noisynets.run.plugins import load_plugins
from noisynets.run.settings import Config
from noisynets.run.settings.consumers import named, refusals

COMMANDS: Registry[Command] = Registry(
    "command",
    (
        Command("train", train, TrainArguments, Config, configured),
        Command("resume", resume, ResumeArguments),
        Command("eval", eval_, EvalArguments),
        Command("predict", predict, PredictArguments),
        Command("export", export, ExportArguments),
        Command("compare", compare, CompareArguments),
        Command("generate", generate, GenerateArguments),
        Command("diagnose", diagnose, DiagnoseArguments, Config),
        Command("show", show, ShowArguments),
        Command("report", report, ReportArguments),
        Command("neurobench", neurobench, NeurobenchArguments),
        Command("data", data, DataArguments),
        Command("bench", bench, BenchArguments),
        Command("check-box", check_box, CheckArguments),
        Command("list", list_, ListArguments),
    ),
)
HELP, HELP_ALL = ("-h", "--help"), ("--help-all", "--help_all")


def run(words: Sequence[str]) -> None:
    """Run a command line, without the program's name."""
    keep_freed()
    for failure in load_plugins():
        print(f"noisynets: {failure}", file=sys.stderr)
    if not words or words[0] in (*HELP, *HELP_ALL):
        print(overview())
        return
    command, rest = COMMANDS[words[0]], words[1:]
    if any(word in (*HELP, *HELP_ALL) for word in rest):
        whole = any(word in HELP_ALL for word in rest)
        rest = [word for word in rest if word not in (*HELP, *HELP_ALL)]
        print(_help(command, rest, whole), end="")
        return
    command(rest)


def overview() -> str:
    """Return the help of `noisynets` itself."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: noisynets COMMAND [options]",
            "",
            "Train systems that gradients cannot: two forward passes, no derivatives.",
            "",
            *(f"  {name:{width}s}  {command.summary}" for name, command in COMMANDS.items()),
            "",
            "noisynets COMMAND --help explains a command; noisynets list names what there is.",
        ]
    )


def _help(command: Command, words: Sequence[str], whole: bool) -> str:
    """Return the help of a command: of all its options, or of those that matter most."""
    shown = command.all if whole else common(command, words)
    hidden = len(command.all) - len(shown)
    more = f"noisynets {command.name} --help-all shows {hidden} more." if hidden else ""
    return help_of(command, shown, more)


def common(command: Command, words: Sequence[str]) -> Mapping[str, Option]:
    """Return a command's own options, the common settings, and those of the chosen parts.

    A setting is shown if what is chosen uses it, and it is common or is not used by default.
    """
    if command.settings is None:
        return command.all
    try:
        given = parsed(command.all, words)
    except InputError:
        given = {}
    chosen, default = named(given), named({})

    def matters(option: Option) -> bool:
        if any(refusals(option, chosen)):
            return False
        return option.setting.common or any(refusals(option, default))

    own = command.own
    return {name: o for name, o in command.all.items() if name in own or matters(o)}
