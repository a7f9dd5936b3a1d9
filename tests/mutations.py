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


BATTERY = "tests/test_battery.py::test_"
SEEDS = "tests/test_seeds.py::test_another_seed_gives_other_bits"
INDEPENDENT = "tests/test_seeds.py::test_"
NOISE_SEED = "tests/test_seeds.py::test_an_estimators_seed_decides_its_noise"
ROLL_OUTS = "tests/test_seeds.py::test_another_seed_gives_other_roll_outs"
MAPS = "tests/test_seeds.py::test_random_feedback_comes_from_the_seed_alone"
ACTING_MAPS = "tests/test_roll_out.py::test_random_feedback_of_what_acts_comes_from_its_seed"
ACTING_METHODS = "tests/test_roll_out.py::test_methods_hand_their_seed_to_what_acts"
CHIPS = "tests/test_devices.py::test_one_seed_sets_the_chip_and_another_the_noise_in_time"
SHARED = "tests/test_rules.py::test_a_shared_layer_agrees_with_plain_loops"
PLAN = "tests/test_plan.py::test_a_system_that_changes_between_two_batches_is_traced_anew"
SPIKES = "tests/test_spiking.py::test_rules_agree_with_plain_loops"
NORMS = "tests/test_spiking.py::test_a_normalisation_gets_the_mean_over_the_steps"
ACTS = "tests/test_roll_out.py::test_np_is_what_plain_loops_give"
LAST = "tests/test_roll_out.py::test_the_last_layer_learns_what_plain_loops_give"
DIGITAL = "tests/test_digital.py::test_credit_is_the_gradient"
EXACT = "tests/test_graph.py::test_with_the_true_maps_credit_is_the_gradient"
TRAINED = f"{BATTERY}the_seed_of_a_run_decides_every_bit_of_its_training"
MEAN = f"{BATTERY}stacked_resamples_are_the_mean_of_sequential_passes"


def loops(rule: str, resamples: int = 1, decorrelated: bool = False) -> str:
    """The comparison of a rule with plain loops."""
    return f"{BATTERY}agrees_with_plain_loops[{resamples}-{decorrelated}-{rule}]"


def mutation(name: str, file: str, old: str, new: str, *tests: str) -> Mutation:
    """Return a mutation of a file of the package."""
    return Mutation(name, f"noisynets/{file}", old, new, tests)


def seed(what: str, file: str, old: str, new: str, *tests: str) -> Mutation:
    """Return a mutation that ignores a seed."""
    return mutation(f"seed ignored: {what}", file, old, new, *tests)


RULE_SEEDS = [
    seed(
        "injected noise of node perturbation",
        "estimators/node_perturbation.py",
        "Injection(sigma, noise, seed)",
        "Injection(sigma, noise, 0)",
        NOISE_SEED,
    ),
    seed(
        "injected noise of weight perturbation and SPSA",
        "estimators/weight_space.py",
        "self.default_noise, seed, purpose",
        "self.default_noise, 0, purpose",
        f"{TRAINED}[wp]",
        f"{TRAINED}[spsa]",
    ),
    seed(
        "injected noise of roll-outs",
        "estimators/roll_out.py",
        "Injection(sigma, noise, seed)",
        "Injection(sigma, noise, 0)",
        ROLL_OUTS,
    ),
    seed(
        "injected noise of roll-outs with feedback",
        "estimators/roll_out_feedback.py",
        "Injection(sigma, noise, seed, purpose",
        "Injection(sigma, noise, 0, purpose",
        ROLL_OUTS,
    ),
    seed(
        "rule of node perturbation",
        "estimators/named.py",
        "RULES[name].make(seed)",
        "RULES[name].make(0)",
        MAPS,
    ),
    seed(
        "rule of roll-outs with feedback",
        "estimators/roll_out_feedback.py",
        'seed=salted(seed, "pairs of passes")',
        "seed=0",
        ACTING_MAPS,
    ),
    seed(
        "dfa",
        "rules/dfa.py",
        "partial(RandomMap, seed=seed)",
        "RandomMap",
        f"{BATTERY}the_seed_of_a_rule_decides_its_random_maps[dfa]",
    ),
    seed(
        "maps of dfa",
        "rules/credit/direct_maps.py",
        "generator(self._seed, self._purpose)",
        "generator(0, self._purpose)",
        f"{BATTERY}the_seed_of_a_rule_decides_its_random_maps[dfa]",
    ),
    seed(
        "fa",
        "rules/fa.py",
        "partial(random_map_of, seed=seed)",
        "partial(random_map_of, seed=0)",
        f"{BATTERY}the_seed_of_a_rule_decides_its_random_maps[fa]",
    ),
    seed(
        "node of fa",
        "rules/fa.py",
        "RandomLayerMap(node.product, node.name, seed)",
        "RandomLayerMap(node.product, node.name)",
        f"{BATTERY}the_seed_of_a_rule_decides_its_random_maps[fa]",
    ),
    seed(
        "maps of fa",
        "rules/fa.py",
        "generator(self._seed, self._purpose)",
        "generator(0, self._purpose)",
        f"{BATTERY}the_seed_of_a_rule_decides_its_random_maps[fa]",
    ),
    seed(
        "injected noise of a method",
        "estimators/methods.py",
        "Injection(sigma, noise, p.injection_seed, held)",
        "Injection(sigma, noise, 0, held)",
        f"{TRAINED}[np]",
    ),
    seed(
        "rule of a method",
        "estimators/methods.py",
        "            make_rule(entry, p, system, p.injection_seed),",
        "            make_rule(entry, p, system, 0),",
        f"{SEEDS}[injection-noisy-mlp-dfa-None]",
    ),
    seed(
        "weight perturbation as a method",
        "estimators/methods.py",
        "        seed=p.injection_seed,\n",
        "        seed=0,\n",
        f"{TRAINED}[wp]",
    ),
    seed(
        "roll-outs as a method",
        "estimators/methods.py",
        '"seed": p.injection_seed,',
        '"seed": 0,',
        ACTING_METHODS,
    ),
    seed(
        "rule of roll-outs as a method",
        "estimators/methods.py",
        "rule = make_rule(entry, p, system, p.injection_seed)",
        "rule = make_rule(entry, p, system, 0)",
        ACTING_METHODS,
    ),
    seed(
        "hardware-aware training as a method",
        "estimators/methods.py",
        "HardwareAware(system, seed=p.injection_seed)",
        "HardwareAware(system)",
        f"{SEEDS}[injection-numpy-box-aware]",
    ),
    seed(
        "hardware-aware training",
        "systems/blackbox/model_based.py",
        "generator(self._seed, ",
        "generator(0, ",
        f"{SEEDS}[injection-numpy-box-aware]",
    ),
    seed(
        "streams",
        "core/noise.py",
        "self._salted = salted(seed, purpose)",
        "self._salted = salted(0, purpose)",
        f"{BATTERY}the_seed_of_injected_noise_decides_every_bit[np]",
    ),
    mutation(
        "purpose ignored: all streams",
        "core/seeds.py",
        'f"{whole(seed)}:{purpose}"',
        'f"{whole(seed)}"',
        f"{INDEPENDENT}an_estimator_and_effects_of_equal_seeds_are_independent",
    ),
    mutation(
        "purpose ignored: own noise",
        "core/noise.py",
        "stream = Stream(seed, purpose)\n        stream.restore",
        'stream = Stream(seed, "injected noise")\n        stream.restore',
        f"{INDEPENDENT}an_estimator_and_effects_of_equal_seeds_are_independent",
    ),
    mutation(
        "equal seeds of two effects are not refused",
        "core/check.py",
        " + _same_noise(system)",
        "",
        f"{INDEPENDENT}sources_that_draw_the_same_numbers_are_refused",
    ),
    mutation(
        "the table in place of exact Gaussian noise",
        "core/noise.py",
        "return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)",
        "return gaussian_table(shape, like, generator)",
        "tests/test_noise.py::test_gaussian_noise_is_exact_at_every_size",
    ),
    seed(
        "a system's own noise",
        "core/noise.py",
        "if seed is None else seed, purpose)",
        "if seed is None else 0, purpose)",
        f"{SEEDS}[system-noisy-mlp]",
    ),
]

RUN_SEEDS = [
    seed(
        "of a run, in all of its parts",
        "run/settings/settings.py",
        "np.random.SeedSequence(config.seed)",
        "np.random.SeedSequence(0)",
        f"{BATTERY}every_seed_of_a_run_is_one_of_its_own",
    ),
    seed(
        "weights",
        "run/settings/settings.py",
        '"weight_seed", found["weights"]',
        '"weight_seed", 0',
        f"{SEEDS}[weights-bp]",
    ),
    seed(
        "the system's own noise",
        "run/settings/settings.py",
        '"noise_seed", found["system"]',
        '"noise_seed", 0',
        f"{SEEDS}[system-noisy-mlp]",
    ),
    seed(
        "injected noise",
        "run/settings/settings.py",
        '"injection_seed", found["injection"]',
        '"injection_seed", 0',
        f"{SEEDS}[injection-np]",
    ),
    seed(
        "order of the examples",
        "run/train.py",
        'generator(seeds(config)["order"], ',
        "generator(0, ",
        f"{BATTERY}the_seed_decides_the_order_of_the_examples",
    ),
    seed(
        "encoding",
        "run/session.py",
        'Stream(seed["encoding"], ',
        "Stream(0, ",
        f"{BATTERY}the_seed_decides_encoding_augmentation_and_the_systems_noise[lif-4-rate-bp]",
    ),
    seed(
        "encoding of an evaluation",
        "run/evaluate.py",
        'Stream(seeds(session.config)["encoding"], EVALUATION)',
        "Stream(0, EVALUATION)",
        "tests/test_seeds.py::test_the_seed_decides_the_encoding_of_an_evaluation",
    ),
    seed(
        "augmentation",
        "run/session.py",
        'Stream(seed["augmentation"], ',
        "Stream(0, ",
        f"{BATTERY}the_seed_decides_encoding_augmentation_and_the_systems_noise[mlp-crop-flip-bp]",
    ),
    seed(
        "initial weights",
        "systems/models/build.py",
        "generator(build.weight_seed, ",
        "generator(0, ",
        f"{SEEDS}[weights-bp]",
    ),
    seed(
        "noise of layers",
        "systems/models/build.py",
        'salted(build.noise_seed, f"layer {i}")',
        'salted(0, f"layer {i}")',
        f"{SEEDS}[system-noisy-mlp]",
    ),
    seed(
        "noise of units",
        "systems/models/build.py",
        'salted(build.noise_seed, f"units {i}")',
        'salted(0, f"units {i}")',
        f"{SEEDS}[system-lif-3-(6,)-escape]",
    ),
    seed(
        "noise of a box",
        "systems/models/boxed.py",
        '"seed": build.noise_seed}',
        '"seed": 0}',
        f"{SEEDS}[system-numpy-box]",
    ),
]

DEVICE_SEEDS = [
    seed(
        "fixed pattern of a device",
        "systems/devices/pattern.py",
        "generator(int(self.seed), self.purpose)",
        "generator(0, self.purpose)",
        CHIPS,
    ),
    seed(
        "noise of weights",
        "systems/devices/noisy.py",
        "kept or Source(seed, ",
        "kept or Source(0, ",
        CHIPS,
    ),
    seed(
        "writing of a device",
        "systems/devices/conductance.py",
        "Source(seed, ",
        "Source(0, ",
        CHIPS,
    ),
    seed(
        "chip",
        "systems/devices/presets.py",
        "np.random.SeedSequence(device_seed)",
        "np.random.SeedSequence(0)",
        "tests/test_seeds.py::test_the_seed_of_a_chip_decides_its_devices",
    ),
    seed(
        "noise of a chip",
        "systems/devices/presets.py",
        "np.random.SeedSequence(cycle_seed)",
        "np.random.SeedSequence(0)",
        f"{SEEDS}[system-analog-mlp-anp]",
    ),
    seed(
        "chip of a run",
        "systems/models/build.py",
        "device_seed=build.device_seed",
        "device_seed=0",
        "tests/test_seeds.py::test_the_seed_of_a_chip_decides_its_devices",
    ),
    seed(
        "chip of a box",
        "systems/models/boxed.py",
        'seeds = {"chip": build.device_seed',
        'seeds = {"chip": 0',
        "tests/test_seeds.py::test_the_seed_of_a_chip_decides_its_devices",
    ),
]

TRANSPOSED = [
    mutation(
        "Rᵀ for R: the matrix of a layer",
        "core/decorrelation/layers.py",
        'return self.R.T if self.variant == "rescaled" else self.R',
        'return self.R if self.variant == "rescaled" else self.R.T',
        loops("np", decorrelated=True),
    ),
    mutation(
        "Rᵀ for R: forward of a linear layer",
        "core/decorrelation/layers.py",
        "F.linear(raw - self.mean if self.demean else raw, self.matrix)",
        "F.linear(raw - self.mean if self.demean else raw, self.matrix.T)",
        loops("np", decorrelated=True),
    ),
    mutation(
        "Rᵀ for R: forward of a convolution",
        "core/decorrelation/layers.py",
        "self.conv.weight.flatten(1) @ self.matrix",
        "self.conv.weight.flatten(1) @ self.matrix.T",
        "tests/test_decorrelation.py::test_a_convolution_decorrelates_its_patches",
    ),
    mutation(
        "Rᵀ for R: gradient of a convolution",
        "core/decorrelation/layers.py",
        "kernel @ module.matrix.T",
        "kernel @ module.matrix",
        "tests/test_outer.py::test_decorrelated_convolution_equals_autograd",
    ),
    mutation(
        "Rᵀ for R: inputs of an update",
        "core/decorrelation/layers.py",
        "x = self.decorrelate(rows)",
        "x = F.linear(rows - self.mean if self.demean else rows, self.matrix.T)",
        "tests/test_decorrelation.py::test_correlations_go_down",
    ),
    mutation(
        "Rᵀ for R: update",
        "core/decorrelation/updates.py",
        "torch.addmm(R, x.T, x @ R, alpha=-rate / len(x)).addcmul_(",
        "torch.addmm(R, x.T, x @ R.T, alpha=-rate / len(x)).addcmul_(",
        "tests/test_decorrelation.py::test_updates_agree_with_loops",
    ),
]

PROGRAM = "tests/test_program.py::"
CHANGES = "tests/test_plan.py::test_a_forward_that_changes_is_seen_in_every_batch"
STALE = [
    mutation(
        "stale plan: the system changed",
        "estimators/node_perturbation.py",
        "self._seen, self._graph, self.last_graph, self._checked = now, None, None, False",
        "self._seen, self.last_graph, self._checked = now, None, False",
        PLAN,
    ),
    mutation(
        "stale plan: parameters were frozen or thawed",
        "estimators/node_perturbation.py",
        "[(id(p), p.requires_grad, p.dtype) for p in parameters]",
        "[p.dtype for p in parameters]",
        PLAN,
    ),
    mutation(
        "stale plan: parameters have another precision",
        "estimators/node_perturbation.py",
        "[(id(p), p.requires_grad, p.dtype) for p in parameters]",
        "[p.requires_grad for p in parameters]",
        "tests/test_plan.py::test_a_system_in_another_precision_is_checked_anew",
    ),
    mutation(
        "stale plan: modules were replaced",
        "estimators/node_perturbation.py",
        "[(module, module.training) for module in modules]",
        "[module.training for module in modules]",
        "tests/test_plan.py::test_what_is_blocked_is_found_anew_in_another_graph",
    ),
    mutation(
        "stale plan: modules were switched to evaluation",
        "estimators/node_perturbation.py",
        "[(module, module.training) for module in modules]",
        "modules",
        "tests/test_plan.py::test_a_system_that_is_switched_to_training_shares_its_masks",
    ),
    mutation(
        "stale plan: the inputs have another shape",
        "estimators/node_perturbation.py",
        "if not known or self._graph is None",
        "if self._graph is None",
        "tests/test_plan.py::test_inputs_of_another_size_are_traced_anew",
    ),
    mutation(
        "stale plan: a system that is no fixed chain",
        "estimators/node_perturbation.py",
        "same = single and self._between is not None and graph.recorded",
        "same = single and graph.recorded",
        "tests/test_plan.py::test_what_is_no_chain_is_traced_in_every_batch",
    ),
    mutation(
        "stale plan: values that only a traced pass stores",
        "estimators/node_perturbation.py",
        "same = single and self._between is not None and graph.recorded",
        "same = single and self._between is not None",
        "tests/test_plan.py::test_what_no_record_holds_is_traced_in_every_batch",
    ),
    mutation(
        "stale plan: a chain with a forward of someone else",
        "core/nodes.py",
        'if not known or "forward" in vars(module):',
        'if "forward" in vars(module):',
        f"{CHANGES}[another branch-200-soon]",
    ),
    mutation(
        "stale plan: a hook that changes what passes",
        "core/nodes.py",
        "if module._forward_hooks or module._forward_pre_hooks:",
        "if False:",
        "tests/test_plan.py::test_a_chain_whose_modules_do_something_else_is_traced_anew[hook]",
    ),
    mutation(
        "stale plan: a module with another setting",
        "estimators/node_perturbation.py",
        "self._graph is None or self._between != self._settings()",
        "self._graph is None",
        "tests/test_plan.py::test_a_chain_whose_modules_do_something_else_is_traced_anew[window]",
    ),
    mutation(
        "stale transcript: another operation, on other operands",
        "core/graph/transcript.py",
        "if self.what != what:",
        "if False:",
        f"{CHANGES}[another operation-200-soon]",
        f"{CHANGES}[the operands swapped-0-soon]",
    ),
    mutation(
        "stale transcript: another constant",
        "core/graph/transcript.py",
        "torch.equal(v, given[i])",
        "True",
        f"{CHANGES}[another constant-200-soon]",
    ),
    mutation(
        "stale program: another input of a call",
        "core/graph/program.py",
        "if len(again) != len(made) or not all(map(_same, again, made)):",
        "if False:",
        f"{CHANGES}[another number-200-late]",
        f"{PROGRAM}test_a_forward_that_does_another_thing_is_measured_again[array]",
    ),
    mutation(
        "stale program: what was overwritten",
        "core/graph/rerun.py",
        "if any(version is None or tensor._version != version for tensor, version in self._seen):",
        "if False:",
        f"{PROGRAM}test_a_forward_that_does_another_thing_is_measured_again[in place]",
    ),
    mutation(
        "stale program: other noise in the second measurement",
        "estimators/node_perturbation.py",
        "        injection.stream.restore(stream)\n    return passes(",
        "        pass\n    return passes(",
        f"{PROGRAM}test_a_forward_that_does_another_thing_is_measured_again[number]",
    ),
    mutation(
        "program: a tensor that is changed in place",
        "core/graph/program.py",
        "if drawn or func._schema.is_mutable or not on_host",
        "if drawn or not on_host",
        f"{PROGRAM}test_what_may_not_be_computed_again_has_no_program[in_place]",
    ),
    mutation(
        "operands: what a node overwrites",
        "core/graph/tracer.py",
        "builtin and inlet is node.outlet and not hooked",
        "builtin and inlet is node.outlet",
        "tests/test_plan.py::test_an_operand_that_a_node_overwrites_is_kept_as_it_was",
    ),
    mutation(
        "stale plan: the calls that a rule found blocked",
        "rules/credit/feedback.py",
        "if self._blocked is None or self._blocked[0] is not graph:",
        "if self._blocked is None:",
        "tests/test_plan.py::test_what_is_blocked_is_found_anew_in_another_graph",
    ),
]

SKIPPED = [
    mutation(
        "draw skipped: noise of the first node",
        "core/probe.py",
        "torch.add(output, z, alpha=self.injection.sigma, out=noisy)",
        "noisy.copy_(output)",
        loops("np"),
    ),
    mutation(
        "draw skipped: noise of a node behind the first",
        "core/probe.py",
        "        noisy.add_(z, alpha=self.injection.sigma)\n",
        "",
        loops("np"),
    ),
    mutation(
        "draw skipped: noise at the outputs of a network that acts",
        "estimators/roll_out_feedback.py",
        "done.append(output + xi)",
        "done.append(output.clone())",
        LAST,
    ),
    mutation(
        "draw skipped: a device's own noise",
        "systems/devices/noisy.py",
        "return a + noise",
        "return a",
        "tests/test_effects.py::test_weight_noise_is_independent_for_every_patch",
    ),
    mutation(
        "draw skipped: the state of the stream is not restored",
        "estimators/node_perturbation.py",
        'self.injection.stream.restore(state["stream"])',
        "pass",
        f"{BATTERY}an_estimator_is_restored_with_the_same_bits_at_any_phase[1-np]",
    ),
    mutation(
        "draw skipped: the stream begins anew in every call",
        "core/noise.py",
        "return self.sampler(shape, like, self.stream.on(like.device))",
        'return self.sampler(shape, like, Stream(self.stream._seed, "").on(like.device))',
        "tests/test_plan.py::test_noise_is_drawn_anew_in_every_batch_and_every_node",
    ),
]

SIZES = [
    mutation(
        "N dropped: rules with a norm",
        "rules/scaling.py",
        "n = sum(call.delta[0, 0].numel() for call in calls)",
        "n = 1",
        loops("anp"),
    ),
    mutation(
        "N dropped: of the nodes behind the first",
        "rules/scaling.py",
        "n = sum(call.delta[0, 0].numel() for call in calls)",
        "n = calls[0].delta[0, 0].numel()",
        loops("anp"),
    ),
    mutation(
        "N dropped: innovation and share",
        "rules/credit/delivery.py",
        "size = sum(e[0, 0].numel() for e in innovations)",
        "size = 1",
        loops("innovation"),
        loops("share"),
    ),
    mutation(
        "N dropped: roll-outs",
        "estimators/roll_out.py",
        "weight = weight * scaling(share, torch.ones_like(share), 1.0)",
        "pass",
        "tests/test_roll_out.py::test_n_counts_the_steps_of_an_episode",
    ),
    mutation(
        "mean over K dropped",
        "rules/scaling.py",
        "factor / len(delta), delta)",
        "factor, delta)",
        loops("np", 3),
    ),
    mutation(
        "mean over K dropped: innovation and share",
        "rules/credit/delivery.py",
        "n * factor / len(e), e)",
        "n * factor, e)",
        loops("innovation", 3),
    ),
    mutation(
        "mean over K dropped: roll-outs",
        "estimators/roll_out.py",
        "weight = dloss[p] / len(records[0].delta)",
        "weight = dloss[p]",
        ACTS,
    ),
    mutation(
        "mean over K dropped: roll-outs with feedback",
        "estimators/roll_out_feedback.py",
        "episodes = alive.shape[0] * alive.shape[1]",
        "episodes = alive.shape[1]",
        LAST,
    ),
    mutation(
        "mean over K dropped: weight space",
        "estimators/weight_space.py",
        "(self.resamples * self.injection.sigma**2)",
        "self.injection.sigma**2",
        "tests/test_weight_space.py::test_agrees_with_plain_loops",
    ),
]

DRAWS = [
    mutation(
        "one draw for all epochs: order of the examples",
        "run/train.py",
        'f"order of the examples in epoch {epoch}"',
        '"order of the examples"',
        f"{BATTERY}the_seed_decides_the_order_of_the_examples",
    ),
    mutation(
        "one draw for all calls: injected noise",
        "core/probe.py",
        "        if self.injection.per_trial:\n            self._held[index] = z\n",
        "        self._held[index] = z\n",
        SHARED,
    ),
    mutation(
        "one draw for all calls: held noise is drawn anew",
        "core/probe.py",
        "        if self.injection.per_trial:\n            self._held[index] = z\n",
        "",
        SPIKES,
    ),
    mutation(
        "one draw for all calls: draws of a mean",
        "core/recorders.py",
        "draws = 1 if self._held else n",
        "draws = 1",
        SPIKES,
    ),
    mutation(
        "normalisation over a trial: credit at the mean input",
        "rules/credit/mirror.py",
        "if not call.sampled:",
        "if True:",
        NORMS,
    ),
    mutation(
        "normalisation over a trial: gain learnt at the mean input",
        "rules/credit/mirror.py",
        "call.sampled[self._updates % len(call.sampled)] if call.sampled else call",
        "call",
        NORMS,
    ),
    mutation(
        "normalisation over a trial: gradient of the gain at the mean input",
        "estimators/node_perturbation.py",
        "steps = call.sampled or (call,)",
        "steps = (call,)",
        NORMS,
    ),
    mutation(
        "what is left to SPSA: its passes are not counted",
        "estimators/between.py",
        "sample_forwards=estimate.sample_forwards + more",
        "sample_forwards=estimate.sample_forwards",
        "tests/test_parameters.py::test_what_no_credit_reaches_is_trained_by_spsa_on_request",
    ),
    mutation(
        "one draw for all passes",
        "core/probe.py",
        "z = self.injection.draw(like.shape, like)",
        "z = self.injection.draw(like[:1].shape, like).expand_as(like)",
        f"{MEAN}[np-mlp]",
    ),
]

SUMS = [
    mutation(
        "shared layer summed once: products",
        "core/outer/registry.py",
        "parameter.grad = gradient if before is None else before.add_(gradient)",
        "parameter.grad = gradient",
        SHARED,
    ),
    mutation(
        "shared layer summed once: expressions used twice",
        "rules/credit/delivery.py",
        "found[to] = found[to] + c if to in found else c",
        "found[to] = c",
        EXACT,
    ),
    mutation(
        "digital: credit of the rows of one pass alone",
        "rules/credit/delivery.py",
        "return whole(c, record.applied[to.key].shapes[to.result])",
        "return c",
        DIGITAL,
    ),
    mutation(
        "digital: values as they are after a change in place",
        "core/graph/kept.py",
        "user.keep_before_change(storage)",
        "pass",
        f"{DIGITAL}[changed afterwards-2]",
    ),
    mutation(
        "digital: what is overwritten keeps its credit",
        "core/graph/applied.py",
        "part.zero_()",
        "pass",
        f"{DIGITAL}[overwritten-1]",
        f"{DIGITAL}[filled step by step-2]",
    ),
    mutation(
        "digital: declared physical, and differentiated all the same",
        "core/graph/operations.py",
        "if known is None and not op.physical:",
        "if known is None:",
        "tests/test_graph.py::test_what_is_named_physical_is_passed_by_no_derivative",
    ),
    mutation(
        "parameters between nodes: every pass has the same values",
        "core/own_values.py",
        "return found[noisy]",
        "return tensor",
        "tests/test_parameters.py::test_every_pass_has_its_own_values[1]",
    ),
    mutation(
        "parameters between nodes: their share stays in δL",
        "estimators/between.py",
        "found[name] = seen + before",
        "found[name] = seen",
        "tests/test_parameters.py::test_what_no_credit_reaches_is_trained_within_the_pair[np]",
    ),
    mutation(
        "shared layer summed once: weight space",
        "estimators/weight_space.py",
        "gradient if grad is None else grad.add_(gradient)",
        "gradient",
        "tests/test_weight_space.py::test_agrees_with_plain_loops",
    ),
]

PROCESS = "tests/test_box_process.py::test_"
TRUST = "tests/test_trust.py::test_"
BOXES = [
    mutation(
        "box: only the process is killed, and not its children",
        "systems/blackbox/child.py",
        "os.killpg(popen.pid, signal.SIGKILL)",
        "popen.kill()",
        f"{PROCESS}a_time_out_holds_and_kills_the_child_of_a_wrapper",
    ),
    mutation(
        "box: an answer may be that of another trial",
        "systems/blackbox/process.py",
        'not np.array_equal(np.ravel(answer["trial"]), [trial])',
        "False",
        "tests/test_box_faults.py::test_a_fault_loses_nothing[names another trial]",
    ),
    mutation(
        "box: an answer too many stays in the pipe",
        "systems/blackbox/process.py",
        "if not surplus:",
        "if surplus:",
        f"{PROCESS}an_answer_that_names_no_trial_may_have_been_taken_for_another",
    ),
    mutation(
        "box: a failed step has advanced the checkpoint",
        "run/session.py",
        "return self.state() | self.kept",
        "return self.state()",
        f"{PROCESS}a_run_resumes_after_its_box_failed",
    ),
    mutation(
        "box: passes of an example in different trials",
        "systems/blackbox/readings.py",
        "batch = _period(x)",
        "batch = len(x)",
        "tests/test_blackbox.py::"
        "test_rows_are_split_into_trials_that_hold_all_passes_of_an_example",
    ),
    mutation(
        "trust: a run folder needs none",
        "run/folder.py",
        "self.trust.check(given)",
        "pass",
        f"{TRUST}a_command_in_a_run_folder_is_run_only_if_it_is_named",
    ),
    mutation(
        "trust: a suite needs none",
        "bench/suite.py",
        "trust.check(given)",
        "pass",
        f"{TRUST}a_suite_runs_and_imports_nothing_without_trust",
    ),
]

PAIRED = "tests/test_paired.py"
ZOO = "tests/test_small_zoo.py::test_refused_by_name_or_right"
UNVERIFIED = [
    mutation(
        "verification: rows that mix",
        "core/verify/verification.py",
        "if not any(_mix(plain, stack, noisy, group).differs() for group in groups):",
        "if True:",
        f"{ZOO}[graph]",
    ),
    mutation(
        "verification: rows of the reference pass alone",
        "core/verify/verification.py",
        "for group in (reference, ~reference & ~noisy) if group.any()",
        "for group in (reference,) if group.any()",
        f"{ZOO}[graph]",
    ),
    mutation(
        "verification: weights that act elsewhere",
        "core/verify/verification.py",
        "if not self._moved(plain, None).differs():",
        "if True:",
        f"{ZOO}[tied decoder]",
    ),
    mutation(
        "verification: a loss that reads weights",
        "core/verify/passes.py",
        "recorder.loss(outputs, values)",
        "values.sum()",
        f"{ZOO}[penalty in the loss]",
    ),
    mutation(
        "verification: unknown noise",
        "core/verify/verification.py",
        "if self.injects and not idle:",
        "if False:",
        f"{ZOO}[noise in the loss]",
    ),
    mutation(
        "pairs: statistics of all passes",
        "core/statistics.py",
        "reference, dims = wide[:rows]",
        "reference, dims = wide",
        f"{PAIRED}::test_batch_statistics_are_those_of_the_reference[2d]",
    ),
    mutation(
        "pairs: running statistics with the biased variance",
        "core/statistics.py",
        "unbiased = variance * (count / (count - 1))",
        "unbiased = variance",
        f"{PAIRED}::test_batch_statistics_are_those_of_the_reference[2d]",
    ),
    mutation(
        "pairs: a mask of one batch is kept",
        "estimators/node_perturbation.py",
        "graph.recorded and not self.pairs",
        "graph.recorded",
        f"{PAIRED}::test_a_rule_sees_the_network_of_its_mask[mirrored-units1]",
    ),
    mutation(
        "pairs: declared noise is shared",
        "core/drawing.py",
        "if any(isinstance(m, Effect | Sealed) or _is_noisy_wrapper(m) for m in modules):",
        "if False:",
        f"{PAIRED}::test_noise_that_is_declared_differs_between_passes",
    ),
    mutation(
        "pairs: other masks in a pass of weight perturbation",
        "core/replayed.py",
        "return self._repeatable(func, args, kwargs)",
        "return func(*args, **kwargs)",
        f"{PAIRED}::test_weight_perturbation_keeps_its_mask_and_updates_once",
    ),
    mutation(
        "verification: running statistics are not put back",
        "core/verify/snapshot.py",
        "buffer.copy_(kept)",
        "pass",
        f"{PAIRED}::test_a_step_updates_running_statistics_once[np]",
    ),
    mutation(
        "verification: noise of other packages",
        "core/verify/verification.py",
        "if self.injects and not self.declared:",
        "if False:",
        f"{ZOO}[noise of NumPy]",
    ),
    mutation(
        "verification: the state is not put back",
        "core/verify/verification.py",
        "        passes.restore()\n        restore()",
        "        restore()",
        "tests/test_verify.py::test_results_and_random_numbers_keep_their_bits[in time]",
        "tests/test_verify.py::test_everything_is_put_back_after_an_error",
    ),
    mutation(
        "verification: weights are not put back",
        "core/verify/weights.py",
        "parameter.copy_(value)",
        "parameter.add_(directions[parameter], alpha=-factor)",
        "tests/test_verify.py::test_everything_is_put_back_after_an_error",
        "tests/test_verify.py::test_results_and_random_numbers_keep_their_bits[additive]",
    ),
    mutation(
        "a subclass inherits the product of its parent",
        "core/outer/registry.py",
        "return parent is not None and not overridden(kind, parent)",
        "return parent is not None",
        "tests/test_verify.py::test_a_subclass_is_a_node_once_it_is_registered",
    ),
    mutation(
        "units that differ in a constant share a gate",
        "core/graph/expressions.py",
        "if len(alike[kind]) > 1 and part.constants else kind",
        "if False else kind",
        "tests/test_gates.py::test_credit_has_the_direction_of_the_gradient[thresholds]",
    ),
]

SAME = "tests/test_unfused.py::test_"
FUSED = [
    mutation(
        "unfused: the state of a row that has ended goes on",
        "systems/unfused/recurrent.py",
        "if alive is not None:",
        "if False:",
        f"{SAME}recurrent",
    ),
    mutation(
        "unfused: outputs packed in another order",
        "systems/unfused/recurrent.py",
        "output = output.index_select(0, like.sorted_indices)",
        "pass",
        f"{SAME}recurrent",
    ),
    mutation(
        "unfused: a layer after the last one drops out",
        "systems/unfused/recurrent.py",
        "if i + self.directions < len(cells):",
        "if True:",
        f"{SAME}dropout_between_recurrent_layers",
    ),
    mutation(
        "unfused: the value takes the product of the key",
        "systems/unfused/attention.py",
        "products[id(x)][i] for i, x in enumerate((query, key, value))",
        "products[id(x)][min(i, 1)] for i, x in enumerate((query, key, value))",
        f"{SAME}attention",
    ),
    mutation(
        "unfused: padding is forgotten beside a mask",
        "systems/unfused/attention.py",
        "found = numbers if found is None else found + numbers",
        "found = numbers if found is None else found",
        f"{SAME}attention",
    ),
    mutation(
        "unfused: time first inside of a stack",
        "systems/unfused/transformer.py",
        "        batch_first = bool(self.layers[0].self_attn.batch_first)\n"
        "        swaps = not (rows_first or batch_first)\n"
        "        x = swapped(src)",
        "        batch_first = True\n"
        "        swaps = not (rows_first or batch_first)\n"
        "        x = swapped(src)",
        f"{SAME}encoders",
    ),
    mutation(
        "unfused: the activation module of a decoder layer is lost",
        "systems/unfused/system.py",
        " or isinstance(module, nn.TransformerDecoderLayer)",
        "",
        f"{SAME}the_activation_module_of_a_decoder_layer_is_kept",
    ),
    mutation(
        "unfused: Parameters are copied",
        "systems/unfused/parts.py",
        "    layer.weight = weight\n",
        "    layer.weight = nn.Parameter(weight.detach())\n",
        f"{SAME}cells",
    ),
]

MUTATIONS = [
    *RULE_SEEDS,
    *RUN_SEEDS,
    *DEVICE_SEEDS,
    *TRANSPOSED,
    *STALE,
    *SKIPPED,
    *SIZES,
    *DRAWS,
    *SUMS,
    *BOXES,
    *UNVERIFIED,
    *FUSED,
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
