"""Validation accuracy against σ, and with the σ that `--sigma auto` chooses.

    python examples/sigma.py > table.md

The optimum is wide: only very small σ suffer from rounding, and large σ from curvature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from noisynets.cli.parser import arguments
from noisynets.core.errors import Diverged
from noisynets.diagnose import settled
from noisynets.run.data import load_data
from noisynets.run.folder import create
from noisynets.run.settings import Config, resolve
from noisynets.run.train import train


@dataclass(frozen=True)
class Args:
    """Settings of the comparison."""

    rules: tuple[str, ...] = ("np", "anp", "mirrored")
    sigmas: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3.0, 10.0)
    epochs: int = 2
    hidden: tuple[int, ...] = (64, 64)
    seed: int = 0


def accuracy(config: Config) -> str:
    """Train, and return the validation accuracy in percent, or 'diverged'."""
    with TemporaryDirectory() as folder:
        try:
            summary = train(create(Path(folder) / "run", config), progress_bar=False)
        except Diverged:
            return "diverged"
    return f"{100 * summary['val_accuracy']:.1f}"


def main(args: Args) -> None:
    """Print a Markdown table."""
    titles = [*(f"{sigma:g}" for sigma in args.sigmas), "auto"]
    print(f"| rule | {' | '.join(titles)} |\n|{'---|' * (1 + len(titles))}")
    for rule in args.rules:
        base = Config(system="mlp", rule=rule, hidden=args.hidden, epochs=args.epochs, test=False)
        base = resolve(replace(base, seed=args.seed, sigma="auto"))
        chosen = settled(base, load_data(base)[0])
        cells = [accuracy(replace(base, sigma=sigma)) for sigma in args.sigmas]
        cells.append(f"{accuracy(chosen)} (σ = {chosen.sigma:g})")
        print(f"| {rule} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(arguments(Args))
