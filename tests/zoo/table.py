"""Writes docs/results/zoo.md from what run.py has appended to its files.

python tests/zoo/table.py AFTER.jsonl ... --before BEFORE.jsonl --out docs/results/zoo.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
KINDS = ("unchanged", "changed", "refused", "wrong", "other")
HEAD = """# Architectures that nobody here wrote

Small configurations of third-party architectures with random weights, under
`NodePerturbation(model, loss, "np")`. An accepted one is compared with autograd, parameter by
parameter, in float64 and with a noise design without sampling error
([exact_np.py](../../tests/exact_np.py)); it *agrees* if every parameter has a cosine of at least
0.999 and a norm within 1 %. A model that is refused as it is is tried again in evaluation mode,
with its norms frozen, and with everything frozen but the layers of PyTorch. One with batch
statistics or random masks, which all passes share, is accepted as it is, and is compared in
evaluation mode. Trained parameters outside of layers, which raw rules train by weight perturbation
(and say so), are left out of the comparison.

```
pip install -e .[zoo]
python tests/zoo/run.py --out zoo.jsonl
python tests/zoo/table.py zoo.jsonl --before before.jsonl
```

{before}Spiking packages have smooth spikes here, because spikes have no derivative to compare with;
brevitas' activations are mostly left unquantised for the same reason. Where a package cuts or
replaces derivatives, the truth is differences of the loss. torchvision does not import beside the
torch of this table: the packages were installed with `pip install --no-deps`, what they import was
added, and timm and spikingjelly find an empty module in its place. A few models have an
argument fixed or a head added; the files [from_*.py](../../tests/zoo/) show what was built.
"""


def read(path: Path) -> dict[tuple[str, str], Result]:
    """Results by package and name; the last one counts."""
    lines = map(json.loads, path.read_text().splitlines())
    return {(line["package"], line["name"]): line for line in lines}


def last(result: Result) -> Result:
    """The attempt that decides: the one that was accepted, or the last refused."""
    if "attempts" not in result:
        kind = "hung" if "hung" in result else "broken"
        return {
            "variant": "",
            "outcome": kind,
            "message": str(result.get(kind, "")),
            "named": False,
        }
    return result["attempts"][-1]


def kind(result: Result) -> str:
    """One of `KINDS`."""
    found = last(result)
    if found["outcome"] == "agrees":
        shared = result["attempts"][0]["outcome"] == "accepted" and found["variant"] == "eval"
        return "unchanged" if found["variant"] == "as it is" or shared else "changed"
    return found["outcome"] if found["outcome"] in KINDS else "other"


def counts(results: Sequence[Result], before: dict[tuple[str, str], Result]) -> list[str]:
    """A table of outcomes by package."""
    packages = list(dict.fromkeys(r["package"] for r in results))
    rows = [
        "| package | architectures | agrees, unchanged | agrees, in eval mode or with parts frozen "
        "| refused | wrong | crashed or hung | agrees, but refused in float32 "
        "| wrong before the checks |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for package in [*packages, None]:
        mine = [r for r in results if package in (None, r["package"])]
        version = f"{package} {mine[0]['version']}" if package else "**all**"
        numbers = [sum(kind(r) == k for r in mine) for k in KINDS]
        earlier = [before[key] for r in mine if (key := (r["package"], r["name"])) in before]
        wrong = sum(kind(r) == "wrong" for r in earlier) if earlier else "–"
        single = sum(last(r).get("single", "") not in ("", "accepted") for r in mine)
        cells = [version, len(mine), *numbers, single, wrong]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return rows


def row(result: Result, before: Result | None) -> str:
    """One architecture."""
    found = last(result)
    earlier = "–" if before is None else last(before)["outcome"]
    cosine, ratio = found.get("cosine"), found.get("ratio")
    cells = [
        result["name"] + (f" ({result['note']})" if result["note"] else ""),
        f"{result.get('parameters', 0):,}",
        earlier,
        found["outcome"],
        found["variant"] if found["outcome"] != "refused" else "",
        "" if cosine is None else f"{cosine:.6f}",
        "" if ratio is None else f"{ratio:.4f}",
        refusal(result),
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def refusal(result: Result) -> str:
    """The first sentence of the first refusal, or of what went wrong."""
    for attempt in result.get("attempts", [last(result)]):
        if attempt["outcome"] != "agrees" and attempt["message"]:
            first = attempt["message"].split("; ")[0].split("\n")[0]
            sentence = ": ".join(first.split(": ")[:2])  # without what to do
            return sentence if len(sentence) < 200 else sentence[:197] + "..."
    return ""


def earlier(results: Sequence[Result], before: dict[tuple[str, str], Result]) -> str:
    """What the checks of the first batch changed."""
    wrong = sum(kind(r) == "wrong" for r in before.values())
    cautious = [
        f"{r['package']} {r['name']}"
        for r in results
        if kind(r) == "refused"
        and kind(before.get((r["package"], r["name"]), r)) in ("unchanged", "changed")
    ]
    return (
        f"Before the checks at the first batch, {wrong} of {len(before)} were accepted and trained "
        f"wrongly. The checks are cautious: {len(cautious)} that agreed before are refused now "
        f"({'; '.join(cautious)}). A subclass can be registered, and `verify=False` goes on "
        "without the passes of the first batch.\n\n"
    )


def page(results: Sequence[Result], before: dict[tuple[str, str], Result]) -> str:
    """The whole page."""
    text = earlier(results, before) if before else ""
    parts = [HEAD.format(before=text), *counts(results, before)]
    for package in dict.fromkeys(r["package"] for r in results):
        parts += [
            f"\n## {package}\n",
            "| architecture | parameters | before | now | accepted as | worst cosine | "
            "worst norm ratio | first refusal |",
            "|---|---|---|---|---|---|---|---|",
        ]
        mine = [r for r in results if r["package"] == package]
        parts += [row(r, before.get((r["package"], r["name"]))) for r in mine]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/zoo.md"))
    settings = parser.parse_args()
    before = read(settings.before) if settings.before else {}
    results = [r for path in settings.results for r in read(path).values()]
    settings.out.write_text(page(results, before))


if __name__ == "__main__":
    main()
