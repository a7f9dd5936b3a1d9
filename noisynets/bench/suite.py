"""A suite: which rules are compared on which systems and tasks. Read from a TOML file.

summary = "what it shows"
rules = ["anp", "mirrored", "frozen", "bp"]      # of every case, unless it has its own
seeds = [0, 1, 2]
axis = "hidden layers"                           # optional: what `at` of a case means

[search]                                         # the same for every rule
candidates = 8
epochs = 2

[settings]                                       # of `noisynets train`, for all cases
epochs = 5

[rule.frozen]                                    # more settings, for one rule
lr = 1e-2                                        # a rate is where its search starts

[[case]]
name = "two layers"
system = "mlp"
hidden = [64, 64]
at = 2
tuned.bp = { lr = 3e-3 }                         # chosen before: not searched again
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from noisynets.config import Config, resolve, unheeded
from noisynets.errors import InputError, unknown
from noisynets.methods import METHODS

FOLDER = Path(__file__).parent / "suites"
SETTINGS = {field.name for field in fields(Config)} - {"rule", "seed"}
TOP = {"summary", "rules", "seeds", "search", "settings", "rule", "case"}
OF_A_CASE = {"name", "at", "rules", "tuned"}


@dataclass(frozen=True)
class Entry:
    """A rule on a case.

    Attributes:
        case: its name.
        rule: as `--rule` names it.
        config: resolved settings, from which a search starts; those of the comparison.
        tuned: the settings were chosen before, and are not searched again.
        at: where the case lies on axes, by their names.
    """

    case: str
    rule: str
    config: Config
    tuned: bool
    at: tuple[tuple[str, float], ...] = ()

    @property
    def folder(self) -> str:
        """Name of the case, as that of a folder."""
        return "".join(c if c.isalnum() else "-" for c in self.case).strip("-")


@dataclass(frozen=True)
class Suite:
    """What is compared.

    Attributes:
        name: as on the command line, or of its file.
        summary: one line.
        entries: case by case, rule by rule.
        seeds: of the comparison; the first is also that of the search.
        candidates: settings tried for every rule, on validation.
        search_epochs: of a candidate; 0: as many as in the comparison.
    """

    name: str
    summary: str
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    candidates: int
    search_epochs: int

    def only(self, cases: Sequence[str], rules: Sequence[str]) -> Suite:
        """Return the suite of the cases and rules that are named; of all where none is.

        Raises:
            InputError: for a name that is not in the suite.
        """
        for kind, names, known in (
            ("case", cases, {e.case for e in self.entries}),
            ("rule of the suite", rules, {e.rule for e in self.entries}),
        ):
            for name in names:
                if name not in known:
                    raise unknown(kind, name, known)
        kept = [
            entry
            for entry in self.entries
            if (not cases or entry.case in cases) and (not rules or entry.rule in rules)
        ]
        if not kept:
            raise InputError(f"{self.name}: no such case has such a rule")
        return replace(self, entries=tuple(kept))


def suites() -> dict[str, Path]:
    """Return the suites that come with the package, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def summaries() -> dict[str, str]:
    """Return what the suites of the package say of themselves."""
    return {name: tomllib.loads(path.read_text())["summary"] for name, path in suites().items()}


def read_suite(name: str, changes: dict[str, Any] | None = None) -> Suite:
    """Read a suite, and resolve every setting in it.

    Args:
        name: of a suite of the package, or path of a TOML file.
        changes: settings that override the file's, in all cases.

    Raises:
        InputError: for a file that cannot be read, or names and settings that do not exist.

    >>> suite = read_suite("smoke")
    >>> suite.entries[0].case, suite.entries[0].rule, suite.seeds
    ('noisy, 64-64', 'anp', (0, 1))
    """
    known = suites()
    path = known.get(name, Path(name))
    if path.suffix != ".toml":
        raise unknown("suite", name, [*known, "a path that ends in .toml"])
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    try:
        return _suite(path.stem, values, changes or {})
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error


def _suite(name: str, values: dict[str, Any], changes: dict[str, Any]) -> Suite:
    _known("key", values, TOP)
    search = _table(values, "search")
    _known("key of [search]", search, {"candidates", "epochs"})
    cases = values.get("case", [])
    if not isinstance(cases, list) or not cases:
        raise InputError("there is no [[case]]")
    entries = tuple(entry for case in cases for entry in _entries(case, values, changes))
    seeds = values.get("seeds", [0, 1, 2])
    candidates, epochs = search.get("candidates", 8), search.get("epochs", 0)
    numbers = [("candidates", candidates, 1), ("epochs of [search]", epochs, 0)]
    for key, value, least in [*numbers, *(("a seed", seed, 0) for seed in seeds)]:
        if not isinstance(value, int) or value < least:
            raise InputError(f"{key} {value!r} must be a whole number of at least {least}")
    if not seeds:
        raise InputError("there are no seeds")
    pairs = [(entry.folder, entry.rule) for entry in entries]
    twice = next((pair for pair in pairs if pairs.count(pair) > 1), None)
    if twice:
        raise InputError(f"case {twice[0]!r} has rule {twice[1]!r} twice: names must differ")
    return Suite(
        name=name,
        summary=values.get("summary", ""),
        entries=entries,
        seeds=tuple(seeds),
        candidates=candidates,
        search_epochs=epochs,
    )


def _entries(case: dict[str, Any], values: dict[str, Any], changes: dict[str, Any]) -> list[Entry]:
    name = case.get("name")
    if not isinstance(name, str) or not name:
        raise InputError("a [[case]] has no name")
    rules = case.get("rules", values.get("rules", []))
    if not rules:
        raise InputError(f"case {name!r}: no rules")
    own = {key: value for key, value in case.items() if key not in OF_A_CASE}
    of_rules, tuned = _table(values, "rule"), _table(case, "tuned")
    for rule in [*rules, *of_rules, *tuned]:
        if rule not in METHODS:
            raise unknown(f"rule in case {name!r}", rule, METHODS)
    for what in (_table(values, "settings"), own, *of_rules.values(), *tuned.values()):
        _known(f"setting in case {name!r}", what, SETTINGS)
    at = tuple(_table(case, "at").items())
    for axis, value in at:
        if not isinstance(value, int | float):
            raise InputError(f"case {name!r}: {axis!r} is at {value!r}, which is no number")
    found = []
    for rule in rules:
        settings = _table(values, "settings") | own
        settings = {k: v for k, v in settings.items() if k not in unheeded(rule)}
        settings |= _table(of_rules, rule) | _table(tuned, rule) | changes
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        config = replace(Config(threads=1), rule=rule, **settings)
        try:
            resolved = resolve(config)
        except InputError as error:
            raise InputError(f"case {name!r}, rule {rule!r}: {error}") from error
        except TypeError as error:
            raise InputError(f"case {name!r}: a setting has the wrong type ({error})") from error
        found.append(Entry(name, rule, resolved, rule in tuned, at))
    return found


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    table = values.get(key, {})
    if not isinstance(table, dict):
        raise InputError(f"{key!r} must be a table")
    return table


def _known(kind: str, found: dict[str, Any], known: set[str]) -> None:
    for name in found:
        if name not in known:
            raise unknown(kind, name, known)
