"""Three simulated chips with unknown parameters: trained in the loop, or through a model of them.

    python examples/chip_in_the_loop.py      # takes minutes; an interrupted call can be repeated

The weights, gains and offsets of a chip differ from the programmed values; some weights are stuck,
converters have 6 bits, readings are noisy, and values drift. Training in the loop uses forward
pairs of the chip's readings only (`kolen-pollack` also the changes of the programmed weights).
`offline` trains a perfect model and programs the chip with the result; `aware` does the same with
random distortions of the right size, drawn anew in every step.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from noisynets.cli.parser import arguments
from noisynets.run.settings import Config, resolve
from noisynets.run.train import finished

CHIPS = {
    "numpy-box": "analog perceptron",
    "sign-numpy-box": "hard signs",
    "lif-numpy-box": "spiking neurons",
}
RULES = {  # label, learning rate and colour; docs/results/chips.md has searched learning rates
    "kolen-pollack": ("forward pairs and weight changes (kolen-pollack)", 3e-3, "tab:purple"),
    "mirrored": ("forward pairs in the loop (mirrored)", 3e-3, "tab:red"),
    "dfa": ("random feedback in the loop (dfa)", 3e-3, "tab:grey"),
    "aware": ("model with distortions, transferred", 3e-3, "tab:green"),
    "offline": ("perfect model, transferred", 3e-3, "tab:blue"),
}


@dataclass
class Example:
    """Settings of the example.

    Attributes:
        out: folder of the runs and of chips.png.
        chip: number that determines the chips' parameters.
        epochs: epochs of training.
        hidden: widths of the hidden layers.
        task: name of the task.
    """

    out: Path = Path("runs/chips")
    chip: int = 0
    epochs: int = 5
    hidden: tuple[int, ...] = (256, 256)
    task: str = "mnist"


def config(example: Example, system: str, rule: str) -> Config:
    """Return the settings of one run."""
    return resolve(
        Config(
            task=example.task,
            system=system,
            rule=rule,
            hidden=example.hidden,
            epochs=example.epochs,
            device_seed=example.chip,
            batch_size=200,
            output_scale=0.1,  # the converters reach from -8 to 8
            lr=RULES[rule][1],
        )
    )


def accuracies(folder: Path) -> list[float]:
    """Return the validation accuracy on the chip after every epoch, in percent."""
    with (folder / "metrics.csv").open() as file:
        return [100 * float(row["val_accuracy"]) for row in csv.DictReader(file)]


def draw(example: Example, path: Path) -> None:
    """Draw one panel for each chip, with one line for each way of training."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, len(CHIPS), sharey=True)
    for axes, (system, title) in zip(panels, CHIPS.items(), strict=True):
        for rule, (label, _, colour) in RULES.items():
            y = accuracies(example.out / f"{system}-{rule}")
            epochs = range(1, len(y) + 1)
            axes.plot(epochs, y, color=colour, marker=".", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on the chip (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def main(example: Example) -> dict[str, float]:
    """Make the runs and the picture; return test accuracies on the chip by system and rule."""
    pairs = [(system, rule) for system in CHIPS for rule in RULES]
    found = {}
    for system, rule in tqdm(pairs, unit="run"):
        name = f"{system}-{rule}"
        summary = finished(example.out / name, config(example, system, rule))
        found[name] = summary["test_accuracy"]
    draw(example, example.out / "chips.png")
    return found


if __name__ == "__main__":
    settings = arguments(Example)
    for name, accuracy in main(settings).items():
        print(f"{name:24s} test accuracy on the chip {accuracy:.4f}")
    print(settings.out / "chips.png")
