"""Draw house.png: the rooms of the package in the order of their imports, and a batch's way.

python docs/images/house.py
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOMS = [
    ["core"],
    ["rules", "systems", "tasks"],
    ["estimators"],
    ["run"],
    ["diagnose", "bench"],
    ["cli"],
]
COLOURS = {
    "core": "#dbe8f6",
    "rules": "#dcefdc",
    "systems": "#fbe7c6",
    "tasks": "#f3dcef",
    "estimators": "#fbdcd7",
}
WAY = [
    ("batch", "tasks", "inputs, targets"),
    ("passes", "estimators", "1 reference\n+ P noisy, stacked"),
    ("system", "systems", "any nn.Module"),
    ("probe", "core", "hooks on\nevery node"),
    ("Record", "core", "calls, graph,\nδL, error"),
    ("rule", "rules", "record → credit\nper call"),
    ("outer", "core", "credit ⊗ x"),
    (".grad", "estimators", "any optimiser"),
]


def box(ax: Axes, x: float, y: float, text: str, colour: str, width: float) -> None:
    """Draw a labelled box centred at (x, y)."""
    style = "round,pad=0.02,rounding_size=0.1"
    patch = FancyBboxPatch(
        (x - width / 2, y - 0.26), width, 0.52, boxstyle=style, fc=colour, ec="#444444"
    )
    ax.add_patch(patch)
    ax.text(x, y, text, ha="center", va="center", fontsize=12)


def arrow(ax: Axes, x0: float, x1: float, y: float) -> None:
    """Draw a horizontal arrow."""
    style = {"arrowstyle": "-|>", "color": "#444444", "lw": 1.3}
    ax.annotate("", (x1, y), (x0, y), arrowprops=style)


def draw_rooms(ax: Axes) -> None:
    """Draw the rooms; each may import from the columns on its left."""
    ax.text(0.2, 4.75, "Rooms: each imports only from rooms further left", fontsize=13)
    for i, rooms in enumerate(ROOMS):
        x = 1.0 + 2.12 * i
        for j, room in enumerate(rooms):
            y = 3.5 + 0.7 * ((len(rooms) - 1) / 2 - j)
            box(ax, x, y, room, COLOURS.get(room, "#efefef"), 1.4)
        if i:
            arrow(ax, x - 1.36, x - 0.76, 3.5)


def draw_way(ax: Axes) -> None:
    """Draw what one training step does, coloured by the room where it happens."""
    ax.text(0.2, 2.05, "One training step, in the colours of the rooms", fontsize=13)
    for i, (name, room, note) in enumerate(WAY):
        x = 0.85 + 1.58 * i
        box(ax, x, 1.35, name, COLOURS[room], 1.1)
        ax.text(x, 0.95, note, ha="center", va="top", fontsize=10.5)
        if i:
            arrow(ax, x - 1.0, x - 0.58, 1.35)


def main() -> None:
    """Write house.png beside this file."""
    figure = Figure(figsize=(12.8, 5.1))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 12.8), ylim=(0, 5.1))
    ax.axis("off")
    draw_rooms(ax)
    draw_way(ax)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
