"""Draw concepts.png: one training step on a pair of passes.

python docs/images/concepts.py
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

COLUMNS = {"x": 2.3, "node 1": 4.3, "unit": 6.5, "node 2": 8.7, "loss": 11.0}
REFERENCE, NOISY, DIFFERENCE, CREDIT, GRADIENT = 6.4, 5.0, 3.55, 2.0, 0.6
BLUE, RED, GREY, GREEN = "#dbe8f6", "#fbdcd7", "#efefef", "#dcefdc"


def box(ax: Axes, x: float, y: float, text: str, colour: str, width: float = 1.5) -> None:
    """Draw a labelled box centred at (x, y)."""
    style = "round,pad=0.02,rounding_size=0.12"
    patch = FancyBboxPatch(
        (x - width / 2, y - 0.36), width, 0.72, boxstyle=style, fc=colour, ec="#444444"
    )
    ax.add_patch(patch)
    ax.text(x, y, text, ha="center", va="center", fontsize=12)


def arrow(ax: Axes, x0: float, y0: float, x1: float, y1: float, **style: str) -> None:
    """Draw an arrow from (x0, y0) to (x1, y1)."""
    properties = {"arrowstyle": "-|>", "color": "#444444", "lw": 1.4, **style}
    ax.annotate("", (x1, y1), (x0, y0), arrowprops=properties)


def draw_pass(ax: Axes, y: float, name: str, colour: str, mark: str, noise: str) -> None:
    """Draw one pass from left to right; `mark` is appended to what differs in this pass."""
    ax.text(0.1, y, name, va="center", fontsize=12, fontweight="bold")
    texts = [
        "$x$",
        f"node 1\n$a_1{mark}$",
        f"unit\n$y{mark}$",
        f"node 2\n$a_2{mark}$",
        f"loss $L{mark}$",
    ]
    widths = [0.6, 1.3, 1.1, 1.3, 1.3]
    places = list(COLUMNS.values())
    for x, text, width in zip(places, texts, widths, strict=True):
        box(ax, x, y, text, colour, width)
    for i in range(4):
        arrow(ax, places[i] + widths[i] / 2 + 0.05, y, places[i + 1] - widths[i + 1] / 2 - 0.05, y)
    if noise:
        for column in ("node 1", "node 2"):
            ax.text(
                COLUMNS[column] - 0.72, y - 0.56, noise, fontsize=11, color="#b03a2e", ha="right"
            )


def draw_bracket(ax: Axes) -> None:
    """Draw the bracket that joins the two passes of a pair."""
    x = 11.85
    ax.plot([x, x + 0.15, x + 0.15, x], [REFERENCE, REFERENCE, NOISY, NOISY], color="#444444")
    ax.text(x + 0.25, (REFERENCE + NOISY) / 2, "pair", va="center", fontsize=12)


def draw_differences(ax: Axes) -> None:
    """Draw what a pair measures."""
    ax.text(0.1, DIFFERENCE, "record", va="center", fontsize=12, fontweight="bold")
    texts = {
        "node 1": r"$\delta a_1$",
        "unit": r"$\delta y$",
        "node 2": r"$\delta a_2$",
        "loss": r"$\delta L$",
    }
    for column, text in texts.items():
        x = COLUMNS[column]
        arrow(ax, x, NOISY - 0.42, x, DIFFERENCE + 0.42, linestyle="--", color="#888888")
        box(ax, x, DIFFERENCE, text, GREY, 1.1)


def draw_credit(ax: Axes) -> None:
    """Draw mirrored credit, from right to left."""
    ax.text(0.1, CREDIT, "rule:\nmirrored credit", va="center", fontsize=12, fontweight="bold")
    box(ax, COLUMNS["loss"], CREDIT, r"error $e=\partial L/\partial a_2$", GREEN, 2.0)
    box(ax, COLUMNS["node 2"], CREDIT, "credit$_2$", GREEN, 1.3)
    box(ax, COLUMNS["unit"], CREDIT, "gate$\\circ M_2^T$credit$_2$", GREEN, 2.0)
    box(ax, COLUMNS["node 1"], CREDIT, "credit$_1$", GREEN, 1.3)
    arrow(ax, COLUMNS["loss"] - 1.05, CREDIT, COLUMNS["node 2"] + 0.7, CREDIT)
    arrow(ax, COLUMNS["node 2"] - 0.7, CREDIT, COLUMNS["unit"] + 1.05, CREDIT)
    arrow(ax, COLUMNS["unit"] - 1.05, CREDIT, COLUMNS["node 1"] + 0.7, CREDIT)
    for column, text in (("unit", "gate"), ("node 2", "mirror $M_2$")):
        x = COLUMNS[column]
        arrow(ax, x, DIFFERENCE - 0.42, x - (1.35 if column == "node 2" else 0), CREDIT + 0.42)
        side = 0.12 if column == "unit" else -0.4
        ax.text(x + side, (DIFFERENCE + CREDIT) / 2, text, va="center", fontsize=11)


def draw_gradient(ax: Axes) -> None:
    """Draw the outer products."""
    ax.text(0.1, GRADIENT, "outer product", va="center", fontsize=12, fontweight="bold")
    box(ax, COLUMNS["node 1"], GRADIENT, r".grad of $W_1$: credit$_1\otimes x$", BLUE, 3.1)
    box(ax, COLUMNS["node 2"], GRADIENT, r".grad of $W_2$: credit$_2\otimes y$", BLUE, 3.1)
    for column in ("node 1", "node 2"):
        arrow(ax, COLUMNS[column], CREDIT - 0.42, COLUMNS[column], GRADIENT + 0.42)


def main() -> None:
    """Write concepts.png beside this file."""
    figure = Figure(figsize=(12.6, 7.0))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 12.6), ylim=(0, 7.0))
    ax.axis("off")
    draw_pass(ax, REFERENCE, "reference pass", BLUE, "", "")
    draw_pass(ax, NOISY, "noisy pass", RED, "'", "noise →")
    draw_bracket(ax)
    draw_differences(ax)
    draw_credit(ax)
    draw_gradient(ax)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
