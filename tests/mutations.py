"""Break the code on purpose, one line at a time, and see that a test fails each time.

    python tests/mutations.py                  # all mutations; exit code 1 if one survives
    python tests/mutations.py "N dropped" …    # those whose names contain one of the words
    python tests/mutations.py --list
    JOBS=4 python tests/mutations.py           # so many at a time; the number of cores if unset

Every mutation is applied in a copy of the repository in a temporary folder, where a small selection
of the tests runs with PYTHONPATH pointing at the copy. A mutation is *killed* if a test fails, and
SURVIVED if all pass. It is BROKEN, which also ends with 1, if pytest cannot run: a mutation must
leave a program that starts, and its selection must exist. The selections first run once without any
mutation, and all must pass. `test_mutations.py` checks that the text of every mutation is found
exactly once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("noisynets", "envs", "tests", "examples", "docs", "README.md", "pyproject.toml")
SECONDS = 300.0
"""After so long a selection is BROKEN."""


@dataclass(frozen=True)
class Mutation:
    """A change of one place in one file.

    Attributes:
        name: what is broken.
        file: path in the repository.
        old: text that the file holds exactly once.
        new: what takes its place.
        tests: selections as pytest takes them, at least one of which must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def seed(what: str, file: str, old: str, new: str, *tests: str) -> Mutation:
    """A seed that is ignored."""
    return Mutation(f"seed ignored: {what}", file, old, new, tests)


SEEDS = "tests/test_seeds.py::test_another_seed_gives_other_bits"
SAME = "tests/test_rules.py::test_same_seed_same_bits"
LOOPS = "tests/test_rules.py::test_agrees_with_plain_loops"
SHARED = "tests/test_rules.py::test_a_shared_layer_agrees_with_plain_loops"
PLAN = "tests/test_plan.py::test_a_system_that_changes_between_two_batches_is_traced_anew"
SPIKES = "tests/test_spiking.py::test_rules_agree_with_plain_loops"
MAPS = "tests/test_seeds.py::test_random_feedback_comes_from_the_seed_alone"

MUTATIONS = [
    # A seed is ignored.
    seed(
        "injected noise of node perturbation",
        "noisynets/estimators/node_perturbation.py",
        "Injection(sigma, noise, seed)",
        "Injection(sigma, noise, 0)",
        SAME,
    ),
    seed(
        "injected noise of weight perturbation and SPSA",
        "noisynets/estimators/weight_space.py",
        "Injection(sigma, noise or self.default_noise, seed)",
        "Injection(sigma, noise or self.default_noise, 0)",
        SAME,
    ),
    seed(
        "injected noise of raw roll-outs",
        "noisynets/estimators/roll_out.py",
        "Injection(sigma, noise, seed)",
        "Injection(sigma, noise, 0)",
        "tests/test_seeds.py::test_another_seed_gives_other_roll_outs",
    ),
    seed(
        "injected noise of roll-outs with feedback",
        "noisynets/estimators/roll_out_credit.py",
        "Injection(sigma, noise, seed)",
        "Injection(sigma, noise, 0)",
        "tests/test_seeds.py::test_another_seed_gives_other_roll_outs",
    ),
    seed(
        "feedback of the estimator",
        "noisynets/estimators/node_perturbation.py",
        "FEEDBACKS[rule](seed)",
        "FEEDBACKS[rule](0)",
        MAPS,
    ),
    seed(
        "direct feedback alignment",
        "noisynets/rules/credit/credit.py",
        "Fixed(name, seed)",
        "Fixed(name)",
        MAPS,
    ),
    seed(
        "maps of direct feedback alignment",
        "noisynets/rules/credit/direct.py",
        'f"{seed}:{name}"',
        'f"{name}"',
        MAPS,
    ),
    seed(
        "feedback alignment",
        "noisynets/rules/credit/credit.py",
        "Transport(geometry(node), node.name, seed)",
        "Transport(geometry(node), node.name)",
        MAPS,
    ),
    seed(
        "maps of feedback alignment",
        "noisynets/rules/credit/mirror.py",
        'f"{seed}:{name}"',
        'f"{name}"',
        MAPS,
    ),
    seed(
        "settings of every rule",
        "noisynets/run/session.py",
        'seed=seed["injection"]',
        "seed=0",
        f"{SEEDS}[injection-mirrored]",
        f"{SEEDS}[injection-np]",
    ),
    seed(
        "weights",
        "noisynets/run/session.py",
        'weight_seed=seed["weights"]',
        "weight_seed=0",
        f"{SEEDS}[weights-bp]",
    ),
    seed(
        "the system's own noise",
        "noisynets/run/session.py",
        'noise_seed=seed["system"]',
        "noise_seed=0",
        f"{SEEDS}[system-noisy-mlp]",
    ),
    seed(
        "order of the examples",
        "noisynets/run/train.py",
        'seeds(config)["order"] + epoch',
        "epoch",
        f"{SEEDS}[order-bp]",
    ),
    seed(
        "encoding",
        "noisynets/run/session.py",
        'Stream(seed["encoding"])',
        "Stream(0)",
        f"{SEEDS}[encoding-lif-3-(6,)-yinyang-500-rate-bp]",
    ),
    seed(
        "augmentation",
        "noisynets/run/session.py",
        'Stream(seed["augmentation"])',
        "Stream(0)",
        f"{SEEDS}[augmentation-flip-bp]",
    ),
    seed(
        "hardware-aware training",
        "noisynets/estimators/methods.py",
        "Aware(system, nodes, p.seed)",
        "Aware(system, nodes)",
        f"{SEEDS}[injection-numpy-box-aware]",
    ),
    seed(
        "streams",
        "noisynets/core/noise.py",
        "seed = self._seed + (device.index or 0)",
        "seed = device.index or 0",
        SAME,
    ),
    seed(
        "device",
        "noisynets/systems/devices/pattern.py",
        "np.random.SeedSequence([int(self.seed), _FIXED])",
        "np.random.SeedSequence([_FIXED])",
        "tests/test_devices.py::test_two_seeds_decide_the_chip_and_its_behaviour_in_time",
    ),
    seed(
        "of a run, in all of its parts",
        "noisynets/run/settings/resolve.py",
        "np.random.SeedSequence(config.seed)",
        "np.random.SeedSequence(0)",
        "tests/test_seeds.py::test_the_seeds_of_a_run_are_all_different",
    ),
    # Rᵀ for R.
    Mutation(
        "Rᵀ for R: forward",
        "noisynets/core/decorrelation/layers.py",
        'return self.R.T if self.variant == "rescaled" else self.R',
        'return self.R if self.variant == "rescaled" else self.R.T',
        (LOOPS,),
    ),
    Mutation(
        "Rᵀ for R: gradient of a convolution",
        "noisynets/core/decorrelation/layers.py",
        "kernel @ module.matrix.T",
        "kernel @ module.matrix",
        ("tests/test_decorrelation.py", "tests/test_outer.py"),
    ),
    Mutation(
        "Rᵀ for R: update",
        "noisynets/core/decorrelation/layers.py",
        "x = self.decorrelate(rows)",
        "x = F.linear(rows - self.mean if self.demean else rows, self.matrix.T)",
        ("tests/test_decorrelation.py",),
    ),
    # A stale plan.
    Mutation(
        "stale plan: the system changed",
        "noisynets/estimators/node_perturbation.py",
        "        self.nodes = check(self.system)\n        self._wiring = None\n",
        "        self.nodes = check(self.system)\n",
        (PLAN,),
    ),
    Mutation(
        "stale plan: the inputs have another shape",
        "noisynets/estimators/node_perturbation.py",
        "wired = self._wiring is not None and self._wired_for == inputs.shape[1:]",
        "wired = self._wiring is not None",
        ("tests/test_plan.py::test_inputs_of_another_size_are_traced_anew",),
    ),
    Mutation(
        "stale plan: a system that is no fixed chain",
        "noisynets/estimators/node_perturbation.py",
        "fixed = is_chain(_network(self.system)) and wiring.reported",
        "fixed = True",
        ("tests/test_plan.py::test_what_is_no_chain_is_traced_in_every_batch",),
    ),
    # A draw of noise is skipped.
    Mutation(
        "draw skipped: noise of a node behind the first",
        "noisynets/core/probe.py",
        "        noisy.add_(z, alpha=self._injection.sigma)\n",
        "",
        (LOOPS,),
    ),
    Mutation(
        "draw skipped: a device's own noise",
        "noisynets/systems/devices/noisy.py",
        "return a + noise",
        "return a",
        ("tests/test_effects.py::test_noise_of_products_is_new_for_every_patch",),
    ),
    Mutation(
        "draw skipped: the state of the stream is not restored",
        "noisynets/estimators/node_perturbation.py",
        'self.injection.stream.restore(state["stream"])',
        "pass",
        ("tests/test_feedback.py::test_feedback_restored_on_a_used_estimator_is_what_was_saved",),
    ),
    Mutation(
        "draw skipped: the stream begins anew in every call",
        "noisynets/core/noise.py",
        "return self.sampler(shape, like, self.stream.on(like.device))",
        "return self.sampler(shape, like, Stream(self.stream._seed).on(like.device))",
        ("tests/test_plan.py::test_noise_is_drawn_anew_in_every_batch_and_every_node",),
    ),
    # N is dropped.
    Mutation(
        "N dropped: rules with a norm",
        "noisynets/rules/rule.py",
        "n = sum(r.delta[0, 0].numel() for r in reports)",
        "n = 1",
        (LOOPS,),
    ),
    Mutation(
        "N dropped: of the nodes behind the first",
        "noisynets/rules/rule.py",
        "n = sum(r.delta[0, 0].numel() for r in reports)",
        "n = reports[0].delta[0, 0].numel()",
        (LOOPS,),
    ),
    Mutation(
        "N dropped: innovation and share",
        "noisynets/rules/credit/credit.py",
        "size = sum(e[0, 0].numel() for e in innovations)",
        "size = 1",
        (
            "tests/test_control_variates.py::test_control_variates_are_unbiased_and_have_less_variance",
        ),
    ),
    Mutation(
        "mean over K dropped",
        "noisynets/rules/rule.py",
        "factor / len(delta), delta)",
        "factor, delta)",
        (LOOPS,),
    ),
    # One draw for all calls.
    Mutation(
        "one draw for all calls: injected noise",
        "noisynets/core/probe.py",
        "        if self._hold_noise:\n            self._held[index] = z\n",
        "        self._held[index] = z\n",
        (SHARED, SPIKES),
    ),
    Mutation(
        "one draw for all calls: held noise is drawn anew",
        "noisynets/core/probe.py",
        "        if self._hold_noise:\n            self._held[index] = z\n",
        "",
        (SPIKES,),
    ),
    Mutation(
        "one draw for all calls: draws of a mean",
        "noisynets/core/trial.py",
        "draws = 1 if self._held else n",
        "draws = 1",
        ("tests/test_eligibility.py::test_nodes_called_once_and_often_get_credit_in_proportion",),
    ),
    # Credit of a shared layer is summed once.
    Mutation(
        "shared layer summed once: products",
        "noisynets/core/outer.py",
        "parameter.grad.add_(gradient)",
        "parameter.grad = gradient",
        (SHARED,),
    ),
    Mutation(
        "shared layer summed once: activities used twice",
        "noisynets/rules/credit/pair.py",
        "credits[part.call] = old + c.to(old.dtype).view_as(old)",
        "credits[part.call] = c.to(old.dtype).view_as(old)",
        ("tests/test_wiring.py::test_with_the_true_maps_credit_is_the_gradient",),
    ),
    Mutation(
        "shared layer summed once: expressions used twice",
        "noisynets/rules/credit/pair.py",
        "found[to] = found[to] + c if to in found else c",
        "found[to] = c",
        ("tests/test_wiring.py::test_with_the_true_maps_credit_is_the_gradient",),
    ),
]


def problems(mutation: Mutation, root: Path = ROOT) -> list[str]:
    """What is wrong with a mutation before it runs, one line each."""
    path = root / mutation.file
    if not path.is_file():
        return [f"{mutation.name}: there is no file {mutation.file}"]
    found, times = [], path.read_text().count(mutation.old)
    if times != 1:
        found.append(f"{mutation.name}: {mutation.file} holds its text {times} times, not once")
    if mutation.new == mutation.old:
        found.append(f"{mutation.name}: it changes nothing")
    for test in mutation.tests:
        file, _, function = test.partition("::")
        name = function.split("[")[0]
        if not (root / file).is_file() or f"def {name}" not in (root / file).read_text():
            found.append(f"{mutation.name}: there is no test {test}")
    return found


def copied(folder: Path) -> Path:
    """Copy the repository into a folder, so that `import noisynets` can find it there."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(".*"))
        elif source.is_file():
            shutil.copy2(source, folder / name)
    (folder / "noisynets_envs").symlink_to(folder / "envs")
    return folder


def tested(folder: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests in a copy: the exit code of pytest, and what it printed."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",  # a changed file must not meet the old one's bytecode
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line"]
    addopts = "-o", "addopts=-p no:nengo --import-mode=importlib"
    try:
        done = subprocess.run(
            [*words, *addopts, *tests],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return 2, f"no end within {SECONDS:g} s"
    return done.returncode, done.stdout


def carried_out(mutation: Mutation) -> tuple[str, float, str]:
    """Apply a mutation in a copy of its own: the verdict, seconds, and what pytest printed."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = copied(Path(temporary))
        path = folder / mutation.file
        path.write_text(path.read_text().replace(mutation.old, mutation.new))
        for old in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            old.unlink()
        code, printed = tested(folder, list(mutation.tests))
    verdict = {0: "SURVIVED", 1: "killed"}.get(code, "BROKEN")
    return verdict, time.perf_counter() - start, printed


def sound(mutations: list[Mutation]) -> str:
    """Run all selections without a mutation; empty if they pass, else what is wrong."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = copied(Path(temporary))
        where = subprocess.run(
            [sys.executable, "-c", "import noisynets; print(noisynets.__file__)"],
            cwd="/",
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
        ).stdout.strip()
        if not where.startswith(str(folder)):
            return f"the copy in {folder} is not imported, but {where}"
        code, printed = tested(folder, sorted({test for m in mutations for test in m.tests}))
    return "" if code == 0 else f"without a mutation:\n{printed}"


def main(args: list[str]) -> int:
    """Carry out the chosen mutations, and print a line for each."""
    words = [arg for arg in args if not arg.startswith("-")]
    chosen = [m for m in MUTATIONS if not words or any(word in m.name for word in words)]
    if "--list" in args:
        print(*(f"{m.name}: {m.file}" for m in chosen), sep="\n")
        return 0
    wrong = [line for mutation in chosen for line in problems(mutation)]
    wrong = wrong or ([] if chosen else [f"no mutation has a name with {words}"])
    wrong = wrong or [line for line in [sound(chosen)] if line]
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 1
    verdicts = []
    with ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count() or 1))) as pool:
        for mutation, found in zip(chosen, pool.map(carried_out, chosen), strict=True):
            verdict, seconds, printed = found
            verdicts.append(verdict)
            print(f"{verdict:8}  {seconds:5.1f} s  {mutation.name}", flush=True)
            if verdict == "BROKEN":
                print(printed[-2000:])
    killed = verdicts.count("killed")
    print(f"{killed} of {len(chosen)} mutations are killed")
    return int(killed < len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
