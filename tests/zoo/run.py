"""Architectures that nobody here wrote, under `np`: none may be trained wrongly without a word.

    python tests/zoo/run.py [--only NAME] [--package NAME] [--out zoo.jsonl] [--timeout S]

Every architecture that the files `from_PACKAGE.py` declare is given to `NodePerturbation(model,
loss, "np")` as it is. If it is refused it is tried again in evaluation mode, with its norms frozen,
and with everything frozen but the layers of PyTorch. What is accepted is compared with autograd,
parameter by parameter, with a noise design without sampling error in float64 (tests/exact_np.py).

Each architecture runs in a process of its own. Results are appended to a file, one line of JSON per
architecture; what stands there is not run again. `python tests/zoo/table.py` makes the table.

The packages are the extra `zoo`; `--package` runs one alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import sys
import time
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
from architecture import Architecture  # noqa: E402
from measure import attempts  # noqa: E402

PACKAGES = {
    "timm": "timm",
    "transformers": "transformers",
    "peft": "peft",
    "norse": "norse",
    "spikingjelly": "spikingjelly",
    "sinabs": "sinabs",
    "snntorch": "snntorch",
    "torch_geometric": "torch_geometric",
    "brevitas": "brevitas",
}
"""Packages: the module of each, which a process imports before those of its architectures start."""


def declared(package: str) -> list[Architecture]:
    """Return the architectures of a package."""
    return importlib.import_module(f"from_{package}").ARCHITECTURES


def measured(architecture: Architecture) -> dict[str, Any]:
    """Return what an architecture gave, as JSON has it; runs in a process of its own."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    parameters = sum(p.numel() for p in architecture.build().parameters())
    found = [asdict(attempt) for attempt in attempts(architecture)]
    return {"parameters": parameters, "attempts": found}


def _child(architecture: Architecture, pipe: Any) -> None:
    try:
        pipe.send(measured(architecture))
    except Exception as error:
        pipe.send({"broken": f"{type(error).__name__}: {error}"})


def isolated(architecture: Architecture, timeout: float) -> dict[str, Any]:
    """Measure an architecture in a process, which is ended after `timeout` seconds."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(architecture, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(timeout) else {"hung": timeout}
    except EOFError:
        process.join()
        return {"broken": f"the process ended with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def run_package(package: str, only: str | None, out: Path, timeout: float) -> None:
    """Measure the architectures of a package that are not in the file yet."""
    warnings.filterwarnings("ignore")
    architectures = [a for a in declared(package) if only is None or only.lower() in a.name.lower()]
    lines = out.read_text().splitlines() if out.exists() else []
    seen = {(line["package"], line["name"]) for line in map(json.loads, lines)}
    for architecture in architectures:
        if (package, architecture.name) in seen:
            continue
        start = time.perf_counter()
        found = {
            "package": package,
            "version": version(package),
            "name": architecture.name,
            "note": architecture.note,
            **isolated(architecture, timeout),
            "seconds": round(time.perf_counter() - start, 1),
        }
        with out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(summary(found), flush=True)


def summary(found: dict[str, Any]) -> str:
    """One line per attempt."""
    head = f"{found['package']:16} {found['name']:28} {found['seconds']:6.1f} s "
    if "attempts" not in found:
        return head + str({k: found[k] for k in ("broken", "hung") if k in found})
    rows = []
    for a in found["attempts"]:
        cosine = "" if a["cosine"] is None else f"{a['cosine']:.6f} {a['ratio']:.4f}"
        rows.append(
            f"{a['variant']}: {a['outcome']} {a['components'] or ''} {cosine} "
            f"{'' if a['named'] else 'NO MODULE NAMED '}{a['message'][:110]}"
        )
    return head + ("\n" + " " * len(head)).join(rows)


def main() -> None:
    """Run the packages one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="part of an architecture's name")
    parser.add_argument("--package", choices=PACKAGES)
    parser.add_argument("--out", type=Path, default=Path("zoo.jsonl"))
    parser.add_argument("--timeout", type=float, default=600, help="seconds per architecture")
    settings = parser.parse_args()
    context = multiprocessing.get_context("fork")
    for package in PACKAGES if settings.package is None else [settings.package]:
        arguments = (package, settings.only, settings.out, settings.timeout)
        process = context.Process(target=run_package, args=arguments)
        process.start()
        process.join()


if __name__ == "__main__":
    main()
