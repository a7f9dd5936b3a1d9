"""Who uses a setting: kinds of systems, rules and tasks, as `used_by` of a setting names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from noisynets.core.registry import Registry
from noisynets.core.settings import Option
from noisynets.estimators.methods import BEST, BEST_ACTING, METHODS
from noisynets.run.settings.optimisers import OPTIMISERS
from noisynets.run.settings.settings import Config
from noisynets.systems.catalogue import SYSTEMS
from noisynets.tasks.data import TASKS
from noisynets.tasks.data.own import FOLDER
from noisynets.tasks.environments import is_environment


@dataclass(frozen=True)
class Consumer:
    """A kind of system, rule or task that uses certain settings.

    Attributes:
        of: the setting that names it: 'system', 'rule', 'task' or 'optimiser'.
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
        "rules that learn feedback": _rule(
            lambda m: m.feedback and not m.from_dloss, "has no such schedule"
        ),
        "rules that tell positions apart": _rule(
            lambda m: m.by_position, "does not tell positions apart"
        ),
        "optimisers with momentum": Consumer(
            "optimiser", lambda name: "" if OPTIMISERS[name].momentum else f"{name} has none"
        ),
        "optimisers that decay weights": Consumer(
            "optimiser",
            lambda name: f"{name} has none: use adamw" if OPTIMISERS[name].decay is None else "",
        ),
        "texts": Consumer("task", lambda name: "" if is_text(name) else f"{name} is no text"),
        "folders of pictures": Consumer(
            "task",
            lambda name: "" if name.startswith(FOLDER) else f"{name} is no folder of pictures",
        ),
        "environments": Consumer(
            "task", lambda name: "" if is_environment(name) else f"{name} is no environment"
        ),
        "examples": Consumer(
            "task", lambda name: f"{name} is an environment" if is_environment(name) else ""
        ),
    },
)


def is_text(task: str) -> bool:
    """Return True for the name of a task whose examples are the windows of a text."""
    return task in TASKS and bool(TASKS[task].vocabulary)


def refusals(option: Option, named: dict[str, str]) -> Iterator[str]:
    """Say why a setting has no effect.

    Args:
        option: the setting.
        named: the names of 'system', 'rule', 'task' and 'optimiser', or of some of these.
    """
    for kind in option.setting.used_by:
        consumer = CONSUMERS[kind]
        if consumer.of in named and (refusal := consumer.refusal(named[consumer.of])):
            yield refusal
    if "system" in named and option.name in particular():
        system = named["system"]
        if option.name not in SYSTEMS[system].settings:
            yield f"{system} has no such part"


def particular() -> set[str]:
    """Name the settings that some systems use, and not all."""
    return {name for system in SYSTEMS.values() for name in system.settings}


def named(given: Mapping[str, Any]) -> dict[str, str]:
    """Return system, rule, task and optimiser: those given, if they are registered, or defaults."""
    task = given.get("task", Config().task)
    system = given.get("system", given.get("target"))
    rule, optimiser = given.get("rule"), given.get("optimiser")
    best = BEST_ACTING if is_environment(task) else BEST
    return {
        "task": task,
        "system": system if system in SYSTEMS else Config().system,
        "rule": rule if rule in METHODS else best,
        "optimiser": optimiser if optimiser in OPTIMISERS else Config().optimiser,
    }
