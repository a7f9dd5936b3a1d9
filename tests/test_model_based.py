"""Baselines on a model of the devices, against what they promise."""

import pytest
import torch
from tiny import config, final, interrupted, run, same, tiny_task
from torch import nn

from noisynets import Backpropagation, InputError, squared_error
from noisynets.run.session import build
from noisynets.systems.devices import PRESETS, AdditiveGaussian, Chip, Noisy, WeightSpread
from noisynets.systems.devices.model_based import HardwareAware, nominal, physics_aware
from noisynets.systems.units import Bernoulli

X, Y = torch.randn(6, 4), torch.randn(6, 3)


def chips(preset: str = "distorted") -> nn.Sequential:
    torch.manual_seed(0)
    chip = Chip(preset)
    return nn.Sequential(chip(nn.Linear(4, 5)), nn.Tanh(), chip(nn.Linear(5, 3)))


def plain(system: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(system[0].core[1], nn.Tanh(), system[2].core[1])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_model_is_the_layers_alone_on_the_same_parameters(preset: str) -> None:
    system = chips(preset)
    model = nominal(system)
    assert torch.equal(model(X), plain(system)(X))
    assert {id(p) for p in model.parameters()} == {id(p) for p in system.parameters()}
    assert isinstance(system[0], type(chips(preset)[0]))


@pytest.mark.parametrize("preset", PRESETS)
def test_physics_aware_is_forward_as_the_devices_and_backward_as_the_layers(preset: str) -> None:
    system, twin = chips(preset), chips(preset)
    a1 = twin[0](X)
    h1 = a1.tanh()
    a2 = twin[2](h1)
    found = physics_aware(system)(X)
    torch.testing.assert_close(found, a2)
    squared_error(found, Y).sum().backward()
    with torch.no_grad():  # by hand, at the measured values
        e2 = a2 - Y
        e1 = (e2 @ system[2].core[1].weight) * (1 - h1.square())
    second, first = system[2].core[1], system[0].core[1]
    torch.testing.assert_close(second.weight.grad, e2.T @ h1)
    torch.testing.assert_close(first.weight.grad, e1.T @ X)
    torch.testing.assert_close(first.bias.grad, e1.sum(0))


def test_hardware_aware_has_new_devices_for_every_number_and_the_same_for_the_same() -> None:
    system = chips()
    model = HardwareAware(system, seed=1)
    seen = []
    for number in (0, 1, 0):
        model.draw_(number)
        seen.append(model(X))
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
    assert {id(p) for p in model.parameters()} == {id(p) for p in system.parameters()}


def test_the_spread_of_new_devices_is_that_of_the_chip() -> None:
    layer = nn.Linear(50, 40, bias=False)
    model = HardwareAware(nn.Sequential(Noisy(layer, WeightSpread(0.3, 0))))
    factors = []
    for number in range(20):
        model.draw_(number)
        factors.append(model(torch.eye(50)).T / layer.weight)
    every = torch.stack(factors).detach()
    assert float(every.mean()) == pytest.approx(1, abs=0.01)
    assert float(every.std()) == pytest.approx(0.3, rel=0.02)
    assert float(every.mean(0).std()) == pytest.approx(0.3 / 20**0.5, rel=0.1)  # not fixed


def test_training_them_leaves_the_chip_as_it_was() -> None:
    system = chips()
    before = {name: value.clone() for name, value in system.state_dict().items()}
    model = HardwareAware(system)
    Backpropagation(model, squared_error, before=model.draw_)(X, Y)
    Backpropagation(nominal(system), squared_error)(X, Y)
    assert same(list(before.values()), list(system.state_dict().values()))
    assert all(p.grad is not None for p in system.parameters())


def test_units_keep_their_random_numbers() -> None:
    unit = Bernoulli(seed=3)
    system = nn.Sequential(Noisy(nn.Linear(4, 5), AdditiveGaussian(0.1)), unit)
    model = nominal(system)
    assert model[1].source is unit.source


@pytest.mark.parametrize("made", [nominal, physics_aware, HardwareAware])
def test_a_system_without_devices_is_refused(made) -> None:
    with pytest.raises(InputError, match="Sequential has no devices"):
        made(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize("rule", ["offline", "aware", "pat"])
def test_they_resume_with_the_same_bits(rule: str, tmp_path, monkeypatch) -> None:
    settings = {"rule": rule, "epochs": 2, "system": "mlp", "device_preset": "distorted"}
    whole = run(tmp_path / "whole", **settings)
    folder = interrupted(tmp_path / "broken", monkeypatch, settings, stops=3)
    assert same(final(whole), final(folder))


@pytest.mark.parametrize("system", ["analog-mlp", "noisy-mlp"])
@pytest.mark.parametrize("rule", ["offline", "aware", "pat"])
def test_the_command_line_trains_by_them(rule: str, system: str) -> None:
    session = build(config(rule=rule, system=system))
    x, y = tiny_task("train", None).first(20).batch(slice(None), torch.float32)
    before = [p.detach().clone() for p in session.system.parameters()]
    session.step_(x, y, 0.0)
    assert not same(before, [p.detach() for p in session.system.parameters()])


@pytest.mark.parametrize(("rule", "system"), [("pat", "mlp"), ("robust", "analog-mlp")])
def test_what_has_no_such_model_is_refused_in_one_line(rule: str, system: str) -> None:
    with pytest.raises(InputError, match=f"--rule {rule}: {system} has no model apart from it"):
        build(config(rule=rule, system=system))
