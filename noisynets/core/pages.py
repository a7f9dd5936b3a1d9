"""Pages of the documentation that errors and warnings name."""

from __future__ import annotations

from enum import StrEnum

DOCS = "docs/"
"""Where the pages are: in the repository."""


class Page(StrEnum):
    """A page, with the anchor of the section that helps."""

    ADVICE = "how-to/diagnose.md#what-is-advised"
    BATCH_STATISTICS = "how-to/rules.md#batchnorm-and-dropout"
    BENCHMARKS = "how-to/benchmarks.md#a-suite-of-your-own"
    BOXES = "how-to/blackbox.md#the-contract"
    CHECKPOINTS = "how-to/runs.md#checkpoints"
    CREDIT = "how-to/credit.md#the-parts"
    DAMAGE = "reliability.md"
    DATA = "how-to/data.md"
    DEVICES = "how-to/devices.md#how-effects-compose"
    LOSSES = "how-to/own-systems.md#inputs-targets-and-outputs"
    MEASURED_ERROR = "how-to/credit.md#two-options"
    NEURONS = "how-to/spiking.md#neurons"
    NIR = "how-to/spiking.md#nir-graphs"
    OWN_NOISE = "how-to/rules.md#systems-with-noise-of-their-own"
    PARAMETERS = "how-to/own-systems.md#what-credit-passes-and-how"
    POLICIES = "how-to/policies.md"
    PULSES = "how-to/pulses.md#how-updates-are-written"
    REFUSED = "how-to/rules.md#what-is-refused"
    RUNS = "getting-started.md#what-a-run-leaves"
    SHARED_NOISE = "how-to/warnings.md#how-shared-noise-is-found"
    SIGMA = "how-to/rules.md#scalings-and-distributions"
    SYSTEMS = "getting-started.md#train-on-the-command-line"
    WARNINGS = "how-to/warnings.md"
    WEAR = "how-to/pulses.md#wear"
    WHICH_RULE = "which-rule.md"


def told(message: str, page: Page | None) -> str:
    """Return a message that names a page, unless it names one already.

    >>> told("unknown rule 'amp'", Page.WHICH_RULE)
    "unknown rule 'amp' (see docs/which-rule.md)"
    """
    if page is None or f"(see {DOCS}" in message:
        return message
    return f"{message} (see {DOCS}{page})"
