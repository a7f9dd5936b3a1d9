"""Grid search of settings for each rule by validation score, with one seed.

    python examples/tune.py --rules np anp --lrs 3e-4 1e-3 3e-3 --sigmas 1e-3 1e-2 --out runs/tune

`noisynets bench` searches automatically, with equally many candidates for every rule; this example
tries the given values only. Each candidate has a run folder in --out, so that a repeated call
continues an interrupted search. The test set is not used. The last lines printed are a Markdown
table, best candidates first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import multiprocessing
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_type_hints

from noisynets.bench.run import judged_by
from noisynets.cli.parser import parsed
from noisynets.core.errors import Diverged
from noisynets.core.settings import Option, Setting
from noisynets.core.values import options, written
from noisynets.estimators.methods import METHODS
from noisynets.run.settings import Config, resolve
from noisynets.run.train import finished


@dataclass(frozen=True)
class Search:
    """A grid of candidates."""

    rules: tuple[str, ...] = ("anp",)
    """Rules to tune, each separately."""
    lrs: tuple[float, ...] = (1e-3, 3e-3)
    """Learning rates to try."""
    sigmas: tuple[float, ...] = ()
    """Values of σ to try, for rules that inject noise."""
    decor_lrs: tuple[float, ...] = ()
    """Learning rates of decorrelation to try, for rules that decorrelate."""
    base: Config = Config(system="mlp", threads=1)
    """Settings common to all candidates."""
    jobs: int = 2
    """Number of runs at a time."""
    out: Path = Path("runs/tune")
    """Folder of the run folders."""


def candidates(search: Search) -> list[Config]:
    """Return all combinations, without the settings that a rule does not have."""
    configs = []
    for rule in search.rules:
        method = METHODS[rule]
        sigmas = search.sigmas if method.perturbs != "nothing" and search.sigmas else (None,)
        decor_lrs = search.decor_lrs if method.decor_lr and search.decor_lrs else (None,)
        for lr, sigma, decor_lr in itertools.product(search.lrs, sigmas, decor_lrs):
            settings = {"rule": rule, "lr": lr, "sigma": sigma, "decor_lr": decor_lr}
            configs.append(resolve(replace(search.base, test=False, **settings)))
    return configs


def run(job: tuple[Config, Path]) -> tuple[Config, float]:
    """Return a candidate and its validation score, higher is better; −inf if it diverged."""
    config, out = job
    settings = json.dumps(written(config)).encode()
    name = f"{config.system}-{config.rule}-{hashlib.sha256(settings).hexdigest()[:12]}"
    try:
        summary = finished(out / name, config)
    except Diverged:
        return config, -math.inf
    name, higher = judged_by(config)
    return config, summary[f"val_{name}"] if higher else -summary[f"val_{name}"]


def search() -> Search:
    """Read the command line: options of the search, and settings of train after `--base.`."""
    own = {
        f.name: Option(f.name, get_type_hints(Search)[f.name], f.default, Setting(""))
        for f in fields(Search)
        if f.name != "base"
    }
    base = {
        f"base.{name}": replace(
            o, name=f"base.{name}", setting=replace(o.setting, positional=False)
        )
        for name, o in options(Config).items()
    }
    given = parsed({**own, **base}, sys.argv[1:])
    changes = {name.removeprefix("base."): v for name, v in given.items() if name in base}
    given = {name: value for name, value in given.items() if name not in base}
    return Search(**given, base=replace(Search().base, **changes))


def main(search: Search) -> None:
    """Run the grid and print the table."""
    jobs = [(config, search.out) for config in candidates(search)]
    with multiprocessing.get_context("spawn").Pool(search.jobs) as pool:
        results = []
        for config, value in pool.imap_unordered(run, jobs):
            results.append((config, value))
            print(f"{len(results)}/{len(jobs)} {config.rule} lr={config.lr:g} {value:.4f}")
    print("\n| rule | lr | sigma | decor-lr | validation score |\n|---|---|---|---|---|")
    for config, value in sorted(results, key=lambda r: (r[0].rule, -r[1])):
        sigma = "-" if config.sigma is None else f"{config.sigma:g}"
        decor = f"{config.decor_lr:g}" if config.decor_lr else "-"
        print(f"| {config.rule} | {config.lr:g} | {sigma} | {decor} | {value:.4f} |")


if __name__ == "__main__":
    main(search())
