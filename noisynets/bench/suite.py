"""A suite: which rules are compared on which systems and tasks. Read from a TOML file.

summary = "what it shows"
rules = ["anp", "mirrored", "frozen", "bp"]      # of every case, unless it has its own
seeds = [0, 1, 2]
own_device = false                               # true: the seed is also that of a chip

[search]                                         # the same for every rule
candidates = 8
epochs = 2
seeds = [0]                                      # a candidate is judged by their mean

[settings]                                       # of `noisynets train`, for all cases
epochs = 5

[rule.frozen]                                    # more settings, for one rule
lr = 1e-2                                        # a rate is where its search starts

[[case]]
name = "two layers"
system = "mlp"
hidden = [64, 64]
at = { "hidden layers" = 2 }                     # its place on axes that are drawn
rates = [1e-3, 1e-2]                             # the candidates, instead of a search
tuned.bp = { lr = 3e-3 }                         # chosen before: not searched again
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisynets.core.errors import InputError, unknown
from noisynets.core.pages import Page
from noisynets.core.reading import read_toml
from noisynets.core.registry import Registry
from noisynets.core.values import fits, made, options
from noisynets.estimators.methods import BEST, METHODS
from noisynets.run.settings import Config, resolve, unused
from noisynets.run.trust import NOBODY, Trust
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.devices import PRESETS

FOLDER = Path(__file__).parent / "suites"
SUITES: Registry[Path] = Registry("suite", {p.stem: p for p in sorted(FOLDER.glob("*.toml"))})
"""The files of the suites that `noisynets bench` can name."""

OF_A_RUN = {"rule", "seed"}
"""Settings that a suite's own tables stand for."""

TOP = {"summary", "rules", "seeds", "own_device", "search", "settings", "rule", "case"}
OF_A_CASE = {"name", "at", "rules", "rates", "tuned"}


@dataclass(frozen=True)
class Entry:
    """A rule on a case.

    Attributes:
        case: its name.
        rule: as `--rule` names it.
        config: resolved settings, from which a search starts; those of the comparison.
        tuned: True if the settings were chosen before: they are not searched again.
        at: where the case lies on axes, by their names.
        rates: learning rates of the candidates; none: they are searched for.
    """

    case: str
    rule: str
    config: Config
    tuned: bool
    at: tuple[tuple[str, float], ...] = ()
    rates: tuple[float, ...] = ()

    @property
    def pulsed(self) -> bool:
        """True if weights are written by pulses, which are counted."""
        return self.config.writes is not None

    @property
    def folder(self) -> str:
        """Name of the case, as that of a folder."""
        return folder_of(self.case)


def folder_of(case: str) -> str:
    """Return the name of a case as that of a folder.

    >>> folder_of("noisy, 64-64")
    'noisy--64-64'
    """
    return "".join(c if c.isalnum() else "-" for c in case).strip("-")


@dataclass(frozen=True)
class Suite:
    """What is compared.

    Attributes:
        name: as on the command line, or of its file.
        summary: one line.
        entries: case by case, rule by rule.
        seeds: of the comparison.
        candidates: settings tried for every rule, on validation.
        search_seeds: of every candidate, which is judged by their mean.
        search_epochs: of a candidate; 0: as many as in the comparison.
        own_device: every seed has a simulated chip of its own, where chips differ.
    """

    name: str
    summary: str
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    candidates: int
    search_seeds: tuple[int, ...]
    search_epochs: int
    own_device: bool = False

    def seeded(self, config: Config, seed: int) -> Config:
        """Return settings with one of the seeds."""
        preset, written = config.preset, config.pulsed_device
        differ = SYSTEMS[config.system].boxed or (preset is not None and PRESETS[preset].spread)
        differ = differ or (written is not None and written.differs)
        device_seed = seed if self.own_device and differ else config.device_seed
        return replace(config, seed=seed, device_seed=device_seed)

    def tried(self, entry: Entry) -> int:
        """Return the number of candidates of a rule on a case, at most."""
        given = len(entry.rates) or self.candidates
        return 0 if entry.tuned else min(given, self.candidates)

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


def summaries() -> dict[str, str]:
    """Return the summaries of all suites that have a name."""
    return {name: read_toml(path)["summary"] for name, path in SUITES.items()}


def read_suite(name: str, changes: dict[str, Any] | None = None, trust: Trust = NOBODY) -> Suite:
    """Read a suite, and resolve every setting in it.

    Args:
        name: of a suite of the package, or path of a TOML file.
        changes: settings that override the file's in all cases, for the rules that use them.
        trust: permission to run the code that the settings of a file name; those of a suite of the
            package need none.

    Raises:
        InputError: for a file that cannot be read, names and settings that do not exist, or code
            for which there is no permission.

    >>> suite = read_suite("smoke")
    >>> suite.entries[0].case, suite.entries[0].rule, suite.seeds
    ('noisy, 64-64', 'anp', (0, 1))
    """
    path = SUITES.get(name, Path(name))
    if path.suffix != ".toml":
        raise unknown("suite", name, [*SUITES, "a path that ends in .toml"], page=Page.BENCHMARKS)
    values = read_toml(path, absent="name a suite, or a TOML file of yours")
    try:
        trust = Trust(everything=True) if name in SUITES else trust
        return _suite(path.stem, values, changes or {}, trust)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error


def _suite(name: str, values: dict[str, Any], changes: dict[str, Any], trust: Trust) -> Suite:
    _known("key", values, TOP)
    search = _table(values, "search")
    _known("key of [search]", search, {"candidates", "epochs", "seeds"})
    cases = values.get("case", [])
    if not isinstance(cases, list) or not cases:
        raise InputError("there is no [[case]]: add one, with a name", page=Page.BENCHMARKS)
    entries = tuple(entry for case in cases for entry in _entries(case, values, changes, trust))
    if not isinstance(values.get("summary", ""), str):
        raise InputError("the summary must be a text")
    seeds = _seeds(values.get("seeds", [0, 1, 2]))
    search_seeds = _seeds(search.get("seeds", list(seeds[:1])))
    candidates, epochs = search.get("candidates", 8), search.get("epochs", 0)
    numbers = [("candidates", candidates, 1), ("epochs of [search]", epochs, 0)]
    for key, value, least in numbers:
        _whole(key, value, least)
    own_device = values.get("own_device", False)
    if not isinstance(own_device, bool):
        raise InputError(f"own_device must be true or false, not {own_device!r}")
    for entry in entries:
        if entry.config.final_fit and not entry.tuned:
            raise InputError(
                f"case {entry.case!r}: final_fit leaves nothing to choose settings on: give tuned"
            )
    pairs = [(entry.folder, entry.rule) for entry in entries]
    twice = next((pair for pair in pairs if pairs.count(pair) > 1), None)
    if twice:
        raise InputError(f"case {twice[0]!r} has rule {twice[1]!r} twice: names must differ")
    return Suite(
        name=name,
        summary=values.get("summary", ""),
        entries=entries,
        seeds=seeds,
        candidates=candidates,
        search_seeds=search_seeds,
        search_epochs=epochs,
        own_device=own_device,
    )


def _rates(case: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(fits(v, float) and 0 < v < math.inf for v in values):
        raise InputError(f"case {case!r}: rates {values!r} are no list of positive numbers")
    if len(set(values)) < len(values):
        raise InputError(f"case {case!r}: rates {values}: one is twice")
    return tuple(map(float, values))


def _seeds(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not values:
        raise InputError(f"seeds {values!r} must be a list of at least one")
    for seed in values:
        _whole("a seed", seed, 0)
    if len(set(values)) < len(values):
        raise InputError(f"seeds {values}: one is twice")
    return tuple(values)


def _whole(key: str, value: Any, least: int) -> None:
    if not fits(value, int) or value < least:
        raise InputError(f"{key} {value!r} must be a whole number of at least {least}")


def _entries(
    case: Any, values: dict[str, Any], changes: dict[str, Any], trust: Trust
) -> list[Entry]:
    name = case.get("name") if isinstance(case, dict) else None
    if not isinstance(name, str) or not 0 < len(name) < 100:
        raise InputError("a [[case]] has no name, or a very long one")
    rules = case.get("rules", values.get("rules", []))
    if not isinstance(rules, list) or not rules or not all(isinstance(r, str) for r in rules):
        raise InputError(f"case {name!r}: rules {rules!r} are no list of rules")
    rules = [BEST if rule == "best" else rule for rule in rules]
    own = {key: value for key, value in case.items() if key not in OF_A_CASE}
    of_rules, tuned = _table(values, "rule"), _table(case, "tuned")
    for rule in [*rules, *of_rules, *tuned]:
        if rule not in METHODS:
            raise unknown(f"rule in case {name!r}", rule, METHODS)
    _known(f"tuned rule of case {name!r}", tuned, set(rules))
    common = _table(values, "settings")
    tables = [_table(table, rule) for table in (of_rules, tuned) for rule in table]
    known = options(Config)
    for what in (common, own, *tables):
        _known(f"setting in case {name!r}", what, known.keys() - OF_A_RUN)
        for setting, value in what.items():
            if not fits(value, known[setting].type):
                raise InputError(f"case {name!r}: {setting} = {value!r} has the wrong type")
    at = tuple(_table(case, "at").items())
    for axis, value in at:
        if not fits(value, float) or not math.isfinite(value):
            raise InputError(f"case {name!r}: {axis!r} is at {value!r}, which is no number")
    rates = _rates(name, case.get("rates", []))
    found = []
    for rule in rules:
        settings = common | own
        settings = {k: v for k, v in settings.items() if k not in unused(rule)}
        settings |= _table(of_rules, rule) | _table(tuned, rule)
        settings |= {k: v for k, v in changes.items() if k not in unused(rule)}
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        try:
            given = made(Config, {"threads": 1, "rule": rule} | settings)
            trust.check(given)
            resolved = resolve(given)
        except InputError as error:
            raise InputError(f"case {name!r}, rule {rule!r}: {error}") from error
        found.append(Entry(name, rule, resolved, rule in tuned, at, rates))
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
