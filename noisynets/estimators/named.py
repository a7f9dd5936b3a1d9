"""Rules by name in Python, and what to use for names that the command line has besides."""

from __future__ import annotations

from collections.abc import Iterable

from noisynets.core.errors import InputError, unknown
from noisynets.core.pages import Page
from noisynets.rules import RULES, Rule

ELSEWHERE = {
    "best": "use rule 'mirrored', or 'innovation' for a network that acts",
    "bp": "use Backpropagation(system, loss)",
    "dbp": "use Backpropagation(decorrelate(system), loss)",
    "dust": "use PositionPerturbation(system, loss)",
    "dust-mirrored": "use PositionPerturbation(system, loss, known=NodePerturbation(system, loss))",
    "wp": "use WeightPerturbation(system, loss)",
    "spsa": "use SPSA(system, loss)",
}
"""Names of the command line that are other estimators in Python."""


def rule_of(name: str, seed: int) -> Rule:
    """Return a new rule.

    Args:
        name: in `RULES`.
        seed: of what the rule draws.

    Raises:
        InputError: for a name that is not in `RULES`, with what to use instead.

    >>> rule_of("danp", 0)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: rule 'danp': decorrelate the system, and use rule 'anp' with \
it: system = decorrelate(system)
    """
    if name not in RULES:
        raise no_rule(name)
    return RULES[name].make(seed)


def no_rule(name: str, kind: str = "rule", known: Iterable[str] = RULES) -> InputError:
    """Return the error for a name that is no rule here.

    Args:
        name: as given.
        kind: of rule, for the error message.
        known: all valid names.
    """
    if name in ELSEWHERE:
        return InputError(f"rule {name!r}: {ELSEWHERE[name]}")
    plain = RULES.get(name[1:]) if name.startswith("d") else None
    if plain is not None and plain.decorrelated_lr is not None:
        return InputError(
            f"rule {name!r}: decorrelate the system, and use rule {plain.name!r} with it: "
            "system = decorrelate(system)"
        )
    return unknown(kind, name, known, page=Page.WHICH_RULE)
