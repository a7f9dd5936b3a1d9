"""Who uses a setting: kinds of systems, rules and tasks, as `used_by` of a setting names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from noisynets.core.registry import Registry
from noisynets.core.settings import Option
from noisynets.estimators.methods import BEST, BEST_ACTING, METHODS
from noisynets.run.settings.settings import Config
from noisynets.systems.catalogue import SYSTEMS
from noisynets.tasks.environments import is_environment


@dataclass(frozen=True)
class Consumer:
    """A kind of system, rule or task that uses certain settings.

    Attributes:
        of: the setting that names it: 'system', 'rule' or 'task'.
        refusal: name → why settings that this kind uses have no effect there; '': they have one.
    """

    of: str
    refusal: Callable[[str], str]


def _rule(uses: Callable[[Any], bool], refusal: str) -> Consumer:
    return Consumer("rule", lambda name: "" if uses(METHODS[name]) else f"{name!r} {refusal}")


CONSUMERS: Registry[Consumer] = Registry(
    "user of settings",
    {
        "spiking systems": Consumer(
            "system", lambda name: "" if SYSTEMS[name].spiking else f"{name} has no time steps"
        ),
        "rules that decorrelate": _rule(lambda m: m.decor_lr > 0, "does not decorrelate"),
        "rules that inject": _rule(lambda m: m.perturbs != "nothing", "injects nothing"),
        "rules that scale": _rule(lambda m: m.perturbs != "weights", "has none"),
        "rules that credit nodes": _rule(
            lambda m: m.perturbs == "nodes", "gives no credit to nodes"
        ),
        "feedback rules": _rule(lambda m: m.feedback, "is no feedback"),
        "environments": Consumer(
            "task", lambda name: "" if is_environment(name) else f"{name} is no environment"
        ),
        "examples": Consumer(
            "task", lambda name: f"{name} is an environment" if is_environment(name) else ""
        ),
    },
)


def refusals(option: Option, named: dict[str, str]) -> Iterator[str]:
    """Say why a setting has no effect.

    Args:
        option: the setting.
        named: the names of 'system', 'rule' and 'task', or of some of these.
    """
    for kind in option.setting.used_by:
        consumer = CONSUMERS[kind]
        if consumer.of in named and (refusal := consumer.refusal(named[consumer.of])):
            yield refusal
    if "system" in named and option.name in particular():
        system = named["system"]
        if option.name not in SYSTEMS[system].settings:
            yield f"{system} has no such units"


def particular() -> set[str]:
    """Name the settings that some systems use, and not all."""
    return {name for system in SYSTEMS.values() for name in system.settings}


def named(given: Mapping[str, Any]) -> dict[str, str]:
    """Return system, rule and task by name: those given, where they are registered, or defaults."""
    task = given.get("task", Config().task)
    system = given.get("system", given.get("target"))
    rule = given.get("rule")
    best = BEST_ACTING if is_environment(task) else BEST
    return {
        "task": task,
        "system": system if system in SYSTEMS else Config().system,
        "rule": rule if rule in METHODS else best,
    }
