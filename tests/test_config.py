"""Settings: whatever is asked for, it is resolved or refused in one line."""

from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from noisynets.core.decorrelation import VARIANTS
from noisynets.core.errors import InputError
from noisynets.core.noise import SAMPLERS
from noisynets.estimators.methods import METHODS, Method
from noisynets.rules import SCALINGS
from noisynets.run.settings import OPTIMISERS, SCHEDULES, Config, resolve, seeds
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.devices import PRESETS
from noisynets.systems.pulses import PULSED, UPDATES

numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True)
names = st.sampled_from


@settings(max_examples=300, deadline=None)
@example({"system": "vit", "heads": 0, "context": 0})
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "task": names(["mnist", "yinyang", "cartpole", "nothing"]),
            "system": names([*SYSTEMS, "nothing"]),
            "rule": names([*METHODS, "nothing"]),
            "hidden": st.none() | st.lists(st.integers(-1, 99), max_size=3).map(tuple),
            "epochs": st.integers(-2, 3),
            "batch_size": st.integers(-2, 3),
            "lr": numbers,
            "sigma": numbers,
            "decor_lr": numbers,
            "intrinsic_noise": numbers,
            "device_preset": st.none() | names([*PRESETS, "none", "nothing"]),
            "device_seed": st.integers(-1, 3),
            "writes": st.none() | names([*PULSED, "nothing"]),
            "update": st.none() | names([*UPDATES, "nothing"]),
            "write_threshold": st.floats(allow_nan=True, allow_infinity=True),
            "write_states": st.none() | st.integers(-1, 2**60),
            "write_asymmetry": numbers,
            "write_endurance": st.none() | st.integers(-1, 5),
            "noise_during": names(["both", "training", "evaluation", "never"]),
            "freeze_hidden": st.booleans(),
            "bits": st.integers(-1, 5),
            "temperature": st.floats(allow_nan=True, allow_infinity=True),
            "resamples": st.integers(-1, 3),
            "seed": st.integers(-1, 3),
            "noise": st.none() | names([*SAMPLERS, "nothing"]),
            "scaling": names([*SCALINGS, "nothing"]),
            "decor_variant": names([*VARIANTS, "nothing"]),
            "demean": st.booleans(),
            "discount": st.floats(allow_nan=True, allow_infinity=True),
            "random_numbers": names(["common", "independent", "guessed"]),
            "loss_gradient": names(["known", "measured", "guessed"]),
            "correction": st.floats(allow_nan=True, allow_infinity=True),
            "optimiser": names([*OPTIMISERS, "nothing"]),
            "momentum": st.floats(allow_nan=True, allow_infinity=True),
            "weight_decay": st.none() | st.floats(allow_nan=True, allow_infinity=True),
            "lr_warm_up": st.floats(allow_nan=True, allow_infinity=True),
            "heads": st.integers(-1, 5),
            "context": st.integers(-1, 10**6),
            "adam_beta2": st.none() | st.floats(allow_nan=True, allow_infinity=True),
            "schedule": names([*SCHEDULES, "nothing"]),
            "dtype": names(["float32", "float64", "bfloat16", "float8"]),
            "product_dtype": st.none() | names(["float32", "bfloat16", "float8"]),
        },
    )
)
def test_any_settings_are_resolved_or_refused_in_one_line(given_settings) -> None:
    try:
        resolved = resolve(Config(**given_settings))
    except InputError as error:
        assert "\n" not in str(error) and str(error)
        return
    assert resolve(resolved) == resolved  # so that a run folder's config means what it meant
    assert None not in (resolved.hidden, resolved.lr, resolved.decor_lr, resolved.intrinsic_noise)


def trains_boxes(method: Method) -> bool:
    """True for rules that can train a black box."""
    return method.needs_model or not (
        method.injects or method.decor_lr or method.perturbs == "nothing"
    )


def test_every_default_is_accepted() -> None:
    for rule, method in METHODS.items():
        for system, kind in SYSTEMS.items():
            if kind.acts or (method.needs_model and not kind.boxed):
                continue
            if kind.boxed and not trains_boxes(method):
                continue
            base = Config("text" if kind.text else "mnist", rule=rule, system=system)
            still = kind.boxed or (not kind.intrinsic_noise and kind.device_preset is None)
            quiet = still or not method.injects
            assert resolve(base if quiet else replace(base, sigma=0.1)).lr == method.lr


def test_every_default_is_accepted_in_an_environment() -> None:
    for rule, method in METHODS.items():
        for system, kind in SYSTEMS.items():
            if not (kind.acts and method.acts):
                continue
            quiet = not kind.intrinsic_noise and kind.device_preset is None
            sigma = None if quiet or not method.injects else 0.1
            base = Config("cartpole", rule=rule, system=system, sigma=sigma)
            assert resolve(base).lr == 0.02


def test_noise_in_evaluation_alone_leaves_training_to_an_injected_noise() -> None:
    for during, sigma in (("both", None), ("training", None), ("evaluation", 0.01)):
        assert resolve(Config(noise_during=during)).sigma == sigma


def test_seeds_are_independent() -> None:
    found = [value for seed in range(50) for value in seeds(Config(seed=seed)).values()]
    assert len(set(found)) == len(found) == 300
