"""Results as a table in Markdown, and as a line each."""

from __future__ import annotations

from collections.abc import Sequence

from noisynets.bench.networks.measure import DRAWS, Found

HEAD = f"""Cosine of the gradients that mirrored credit gives with autograd's, in float32, with
weights as they were drawn: of each layer (all parameters of a module in one vector), and of each
parameter by itself. The mirrors were taught on fresh batches; the cosines are those of one further
batch. Parameters whose true gradient is zero, such as the biases of keys in attention, are left
out. Lowest cosines below 0.95 are bold.

Where a network has noise of its own (a chip, or dropout), both gradients are means over {DRAWS}
calls, and autograd goes through the noisy network, through converters as if they did not round.
*Ceiling*: the lowest cosine of two such means of autograd. *Learned credit*: number of nodes whose
credit is learned, because none passes what lies behind them.
"""
TITLES = {
    "none": "Noise is injected",
    "intrinsic": "Every Linear and convolution on a simulated chip, with its noise alone",
}
COLUMNS = (
    "network",
    "pairs",
    "lowest layer",
    "lowest parameter",
    "median parameter",
    "which is lowest",
    "ceiling",
    "learned credit",
    "remark",
)


def markdown(found: Sequence[Found]) -> str:
    """Return a table for each kind of noise; a row per network and number of steps.

    Args:
        found: results, as `missing` yields and `results` reads them.
    """
    parts = [HEAD]
    for noise, title in TITLES.items():
        own = [f for f in found if f["noise"] == noise]
        if own:
            parts.append(f"\n## {title}\n")
            parts += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
            parts += [_row(f) for f in own]
    return "\n".join(parts) + "\n"


def line(found: Found) -> str:
    """Return one line that says what was found of a network.

    >>> line({"network": "glu", "seconds": 1.5, "outcome": "refused", "message": "why"})
    'glu                      1.5 s  refused: why'
    """
    head = f"{found['network']:22} {found['seconds']:5.1f} s  "
    if "least" not in found:
        return head + _message(found)
    few = f"{len(found['fallbacks'])} with learned credit" if found["fallbacks"] else ""
    return head + f"{found['least']:6.3f} {found['median']:6.3f}  {found['worst']}  {few}".rstrip()


def _row(found: Found) -> str:
    cells = [found["network"], str(found.get("pairs", "–"))]
    if "least" in found:
        cells += [_bold(found["least_layer"]), _bold(found["least"]), f"{found['median']:.3f}"]
        ceiling = f"{found['ceiling']:.3f}" if found["ceiling"] < 1 - 1e-9 else "–"
        cells += [f"`{found['worst']}`", ceiling, str(len(found["fallbacks"]) or "–")]
        cells.append(found["note"])
    else:
        cells += ["–", "–", "–", "", "–", "–", ": ".join(_message(found).split(": ")[:3])]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _bold(cosine: float) -> str:
    """Cosine, bold if it is low."""
    return f"{cosine:.3f}" if cosine >= 0.95 else f"**{cosine:.3f}**"


def _message(found: Found) -> str:
    return f"{found['outcome']}: {found.get('message', 'nothing to compare')}"
