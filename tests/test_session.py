"""Sessions are what the settings say."""

import pytest
import torch
from tiny import config, same

from noisynets.run.session import Session, build
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.devices import AdditiveGaussian

ALIKE = ("sign-process-box", "lif-process-box")  # three processes each; built as process-box is


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name not in ALIKE])
def test_every_system_is_built_from_its_seed(system: str) -> None:
    made = SYSTEMS[system]
    task = "cartpole" if made.acts else "text" if made.text else "tiny"
    sizes = {"layers": 1, "width": 8, "heads": 2} if "layers" in made.settings else {"hidden": (8,)}

    def weights(seed: int) -> list[torch.Tensor]:
        settings = {"system": system, "rule": "mirrored", "seed": seed, "task": task}
        return list(build(config(**({"hidden": None} | settings | sizes))).system.parameters())

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert same(weights(1), weights(1)) and not same(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), before)  # the global stream is left alone


def test_initial_weights_have_the_stated_spread() -> None:
    net = build(config(hidden=(400, 300), output_scale=0.1)).system
    assert float(net[1].weight.detach().std()) == pytest.approx((2 / 16) ** 0.5, rel=0.05)
    assert float(net[3].weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert float(net[5].weight.detach().std()) == pytest.approx(0.1 * (2 / 300) ** 0.5, rel=0.1)
    assert all(not m.bias.any() for m in (net[1], net[3], net[5]))


def test_rates_follow_their_schedules() -> None:
    session = build(config(rule="danp", lr=0.1, decor_lr=0.2, decor_schedule="constant"))
    x, y = torch.zeros(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])

    def rates(session: Session, done: float) -> tuple[float, float]:
        session.step_(x, y, done)
        return session.optimiser.param_groups[0]["lr"], session.decorrelations[0].rate

    assert rates(session, 0.0) == pytest.approx((0.1, 0.2))
    assert rates(session, 0.5) == pytest.approx((0.05, 0.2))
    assert rates(session, 1.0) == pytest.approx((0.0, 0.2))
    together = build(config(rule="danp", lr=0.1, decor_lr=0.2))
    assert rates(together, 1 / 3) == pytest.approx((0.075, 0.15))
    constant = build(config(rule="danp", lr=0.1, decor_lr=0.2, schedule="constant"))
    assert rates(constant, 1.0) == pytest.approx((0.1, 0.2))


def test_settings_reach_what_they_set() -> None:
    assert type(build(config(optimiser="sgd")).optimiser) is torch.optim.SGD
    assert type(build(config()).optimiser) is torch.optim.Adam
    session = build(config(rule="danp", demean=True, decor_variant="kappa", decor_rows=7))
    module = session.decorrelations[0]
    assert (module.demean, module.variant, module.rows) == (True, "kappa", 7)


def test_the_noises_of_a_run_are_independent() -> None:
    session = build(config(system="noisy-mlp", sigma=0.1))
    effects = [m for m in session.system.modules() if isinstance(m, AdditiveGaussian)]
    zeros = torch.zeros(20, 20)
    draws = [effect(zeros) for effect in effects] + [session.estimator.injection((20, 20), zeros)]
    assert len({tuple(z.flatten().tolist()[:5]) for z in draws}) == 3
    correlation = torch.corrcoef(torch.stack(draws).flatten(1))
    assert float((correlation - torch.eye(3)).abs().max()) < 0.25
