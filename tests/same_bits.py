"""Digests of many small runs, to show that a change of the code changes no figure.

    python tests/same_bits.py OUT.json        # runs the matrix with the installed package
    python tests/same_bits.py OLD.json NEW.json   # compares two such files

Every run is a command line, so that the same matrix runs on any version. A digest covers the final
weights and buffers of the system, the optimiser's state, and metrics.csv without its seconds. Equal
code gives equal digests on one machine; another processor may round in another way.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

YIN = "yinyang --batch-size 50 --epochs 3 --hidden 20 12"
MNIST = "mnist --batch-size 500 --epochs 1 --hidden 16"
RULES = (
    "np inp anp dnp dinp danp mirrored kolen-pollack learned innovation share dfa fa frozen bp dbp "
    "wp spsa"
).split()
IN_NOISE = [rule for rule in RULES if rule not in ("np", "inp", "dnp", "dinp", "bp", "dbp")]
RUNS: dict[str, str] = {
    **{f"{rule}-mlp": f"{YIN} --system mlp --rule {rule}" for rule in RULES},
    **{f"{rule}-noisy": f"{YIN} --system noisy-mlp --rule {rule}" for rule in IN_NOISE},
    "default": "mnist --epochs 1 --batch-size 500",
    "mirrored-k3": f"{YIN} --system mlp --resamples 3",
    "mirrored-rademacher": f"{YIN} --system mlp --noise rademacher",
    "anp-root": f"{YIN} --system mlp --rule anp --scaling root --resamples 2",
    "anp-variance": f"{YIN} --system mlp --rule anp --scaling variance --noise uniform",
    "inp-variance": f"{YIN} --system mlp --rule inp --scaling variance --resamples 2",
    "danp-demean": f"{YIN} --system mlp --rule danp --demean --decor-variant kappa",
    "danp-rescaled": f"{YIN} --system mlp --rule danp --decor-variant rescaled",
    "measured": f"{YIN} --system mlp --loss-gradient measured",
    "learned-measured": f"{YIN} --system noisy-mlp --rule learned --loss-gradient measured",
    "corrected": f"{YIN} --system mlp --correction 0.5",
    "corrected-noisy": f"{YIN} --system noisy-mlp --rule dfa --correction 1",
    "bfloat16-products": f"{YIN} --system mlp --product-dtype bfloat16",
    "float64": f"{YIN} --system mlp --rule anp --dtype float64",
    "sgd": f"{YIN} --system mlp --rule anp --optimiser sgd --lr 0.01",
    "sign": f"{YIN} --system sign-mlp",
    "sign-bp": f"{YIN} --system sign-mlp --rule bp",
    "bernoulli": f"{YIN} --system bernoulli-mlp --rule danp",
    "quantised": f"{YIN} --system quantised-mlp --rule learned",
    "pcm": f"{YIN} --system analog-mlp",
    "reram": f"{YIN} --system analog-mlp --device-preset reram --rule anp",
    "mtj": f"{YIN} --system analog-mlp --device-preset mtj",
    "photonic": f"{YIN} --system analog-mlp --device-preset photonic --rule share",
    "frozen-hidden": f"{YIN} --system noisy-mlp --rule anp --freeze-hidden",
    "noise-in-evaluation": f"{YIN} --system noisy-mlp --noise-during evaluation",
    "conv": f"{MNIST} 32 --system conv",
    "conv-kolen-pollack": f"{MNIST} 8 --system noisy-conv --rule kolen-pollack",
    "conv-danp": f"{MNIST} 8 --system conv --rule danp",
    "lenet": "mnist --batch-size 500 --epochs 1 --hidden 3 4 20 10 --system lenet",
    "vgg": "mnist --batch-size 1000 --epochs 1 --hidden 4 8 --system vgg",
    "vgg-learned": "mnist --batch-size 1000 --epochs 1 --hidden 4 8 --system vgg --rule learned",
    "resnet": "mnist --batch-size 1000 --epochs 1 --hidden 4 8 --system resnet",
    "lif": f"{YIN} --system lif",
    "lif-anp": f"{YIN} --system lif --rule anp",
    "lif-bp": f"{YIN} --system lif --rule bp --epochs 1",
    "noisy-lif": f"{YIN} --system noisy-lif --steps 5 --rule kolen-pollack",
    "lif-latency": f"{YIN} --system lif --encoder latency --credit-over steps --epochs 1",
    "lif-rate": f"{YIN} --system lif --encoder rate --rule learned --readout count",
    "lif-trial-noise": f"{YIN} --system lif --rule anp --credit-over trial --noise-over trial",
    "rlif": f"{YIN} --system rlif --hidden 12 --steps 4 --rule anp",
    "synaptic": f"{YIN} --system lif --neuron synaptic --firing escape --membrane-noise 0.1",
    "lif-conv": "mnist --batch-size 1000 --epochs 1 --hidden 4 --system lif-conv --steps 3",
    "randman-steps": "randman --batch-size 200 --epochs 1 --hidden 12 --system lif",
    "randman-anp": "randman --batch-size 200 --epochs 1 --hidden 12 --system noisy-lif --rule anp",
    "mackey-glass": "mackey-glass --batch-size 100 --epochs 1 --hidden 12 --system mlp",
    "cartpole-np": "cartpole --system mlp-policy --rule np --epochs 1 --batch-size 50",
    "cartpole-anp": "cartpole --system mlp-policy --rule anp --epochs 1 --batch-size 50",
    "cartpole-innovation": "cartpole --system noisy-policy --epochs 1 --batch-size 50",
    "cartpole-mirrored": "cartpole --system mlp-policy --rule mirrored --epochs 1 --batch-size 50",
    "cartpole-dfa": "cartpole --system noisy-policy --rule dfa --epochs 1 --batch-size 50",
    "cartpole-danp": "cartpole --system mlp-policy --rule danp --epochs 1 --batch-size 50",
    "cartpole-lif": "cartpole --system lif-policy --rule mirrored --epochs 1 --batch-size 100",
    "cartpole-spsa": "cartpole --system bernoulli-policy --rule spsa --epochs 1 --batch-size 50",
    "numpy-box": f"{YIN} --system numpy-box",
    "numpy-box-anp": f"{YIN} --system numpy-box --rule anp",
    "sign-numpy-box": f"{YIN} --system sign-numpy-box --rule kolen-pollack",
    "lif-numpy-box": f"{YIN} --system lif-numpy-box --epochs 1",
    "process-box": f"{YIN} --system process-box --rule learned",
    **{f"box-{rule}": f"{YIN} --system numpy-box --rule {rule}"
       for rule in ("offline", "aware", "robust", "pat", "pat-ends", "spsa")},
}  # fmt: skip
RESUMED = ("mirrored-noisy", "kolen-pollack-mlp", "danp-demean", "lif-rate", "learned-measured",
           "corrected-noisy", "cartpole-mirrored", "numpy-box")  # fmt: skip
"""Killed after their first epoch, and resumed; policies are given two epochs."""


def main(args: list[str]) -> None:
    """Run the matrix, or compare two files."""
    if len(args) == 2:
        old, new = (json.loads(Path(path).read_text()) for path in args)
        wrong = [name for name in old if old[name] != new.get(name)]
        for name in wrong:
            print(f"differs: {name}: {RUNS.get(name, name)}")
        print(f"{len(old) - len(wrong)} of {len(old)} runs have the same bits")
        sys.exit(bool(wrong))
    commands = [(name, options, False) for name, options in RUNS.items()]
    commands += [(f"{name} resumed", RUNS[name], True) for name in RESUMED]
    jobs = int(os.environ.get("JOBS", os.cpu_count() or 1))
    with ThreadPoolExecutor(jobs) as pool:
        found = dict(pool.map(lambda command: (command[0], digest(*command)), commands))
    Path(args[0]).write_text(json.dumps(found, indent=1) + "\n")
    failed = [name for name, value in found.items() if value.startswith("failed")]
    print(f"{len(found)} runs, {len(failed)} failed: {failed}")


def digest(name: str, options: str, resumed: bool) -> str:
    """Run a command line, and return the digest of what it leaves."""
    folder = Path(tempfile.mkdtemp())
    out = folder / "run"
    program = [sys.executable, "-m", "noisynets.cli"]
    if resumed and "--epochs 1" in options:
        options = options.replace("--epochs 1", "--epochs 2")
    words = [*program, "train", *options.split(), "--out", str(out), "--device", "cpu"]
    try:
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
            if resumed:
                while process.poll() is None and _rows(out) < 1:
                    time.sleep(0.02)
                process.send_signal(signal.SIGKILL)
            process.wait()
            if resumed:
                process = subprocess.Popen(
                    [*program, "resume", str(out)], stdout=log, stderr=log, cwd=folder
                )
                process.wait()
        if process.returncode:
            return f"failed: {(folder / 'log').read_text()[-300:]}"
        return _digest(out)
    finally:
        shutil.rmtree(folder)


def _rows(out: Path) -> int:
    file = out / "metrics.csv"
    return max(len(file.read_text().splitlines()) - 1, 0) if file.is_file() else 0


def _digest(out: Path) -> str:
    from safetensors import safe_open

    total = hashlib.sha256()
    with safe_open(out / "checkpoint.safetensors", framework="pt") as file:
        tree = json.loads(file.metadata()["state"])
        for part in ("system", "optimiser"):
            for key in _tensors(dict(tree["dict"])[part]):
                total.update(file.get_tensor(key).flatten().contiguous().numpy().tobytes())
    for row in csv.DictReader((out / "metrics.csv").open()):
        total.update(str([v for k, v in row.items() if k != "seconds"]).encode())
    return total.hexdigest()


def _tensors(value: Any) -> list[str]:
    """Return the keys of all tensors in a saved tree, in order."""
    if isinstance(value, str) and value.startswith("tensor:"):
        return [value.removeprefix("tensor:")]
    if isinstance(value, dict):
        value = [v for _, v in value["dict"]]
    return [key for item in value for key in _tensors(item)] if isinstance(value, list) else []


if __name__ == "__main__":
    main(sys.argv[1:])
