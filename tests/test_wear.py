"""Devices that differ from their preset, and warnings of those that wear out."""

import math
import warnings

import pytest
import torch
from tiny import config, interrupted, run
from torch import nn

from noisynets import InputError
from noisynets.run.wear import warn_of_wear
from noisynets.systems.pulses import PULSED, Pulsed, PulsedSGD, TTv2, array_of, varied, wear

# --- devices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PULSED)
def test_states_change_every_step_and_its_noise_by_one_factor(name) -> None:
    """One pulse without spread moves all devices by four times as much, with equal noise."""
    device, coarse = PULSED[name], varied(PULSED[name], states=PULSED[name].states / 4)
    assert coarse.states == pytest.approx(device.states / 4)
    moved = []
    for each in (device, coarse):
        array = array_of(each, 1, 2)
        array.make_(torch.zeros(40, 40, dtype=torch.float64))
        array.pulse_(torch.ones(40, 40))
        held, top = (array.g, array.top) if name == "pcm-mixed" else (array.w, array.high)
        moved.append(held)
    inside = (moved[1] > 0) & (moved[1] < top)  # what has reached no bound
    assert inside.double().mean() > 0.3
    torch.testing.assert_close(moved[1][inside], 4 * moved[0][inside])


def test_the_noise_of_writing_keeps_its_size() -> None:
    device = PULSED["reram-sb"]
    for states in (10, 100, 5000):
        coarse = varied(device, states=states)
        assert coarse.write_noise * coarse.step == pytest.approx(device.write_noise * device.step)


def test_what_is_not_named_stays() -> None:
    device = PULSED["ecram"]
    assert varied(device) == device
    changed = varied(device, asymmetry=0.3, endurance=7)
    assert (changed.asymmetry, changed.endurance, changed.step) == (0.3, 7, device.step)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"write_states": 1}, "--write-states 1 must be at least 2"),
        ({"write_asymmetry": 0.8}, "--writes ecram: device 'ecram': asymmetry 0.8 leaves no sym"),
        ({"writes": "pcm-mixed", "write_asymmetry": 0.1}, "device 'pcm-mixed': has no asymmetry"),
        ({"writes": "pcm-mixed", "write_states": 2}, "a step of 2 is as large as the range"),
        ({"write_endurance": 0}, "--write-endurance 0 must be at least 1"),
        ({"writes": None, "write_states": 9}, "--write-states 9: nothing is written by pulses"),
    ],
)
def test_devices_that_cannot_be_are_refused_in_one_line(settings, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        config(**({"writes": "ecram"} | settings))
    assert "\n" not in str(caught.value)


# --- wear --------------------------------------------------------------------------------------


def worn_by(pulses: int, endurance: int = 100) -> nn.Sequential:
    torch.manual_seed(0)
    device = varied(PULSED["ideal"], endurance=endurance)
    net = nn.Sequential(Pulsed(nn.Linear(3, 2), device), Pulsed(nn.Linear(2, 2), device))
    counts = torch.zeros(2, 3)
    counts[1, 2] = pulses
    net[0].pulse_(counts)
    return net


def told(net: nn.Module, done: int, total: int, known: dict[str, str] | None = None) -> list[str]:
    with warnings.catch_warnings(record=True, action="always") as caught:
        warn_of_wear(net, {} if known is None else known, done, total)
    return [str(warning.message) for warning in caught]


def test_steps_left_are_those_at_the_mean_rate() -> None:
    found = wear(worn_by(40), steps=80)
    assert found["0"].steps_left == 120 and found["0"].largest == 40
    assert found["1"].steps_left == math.inf and found["1"].devices == 4
    assert wear(nn.Sequential(Pulsed(nn.Linear(2, 2), "ecram")), steps=1) == {}
    with pytest.raises(InputError, match="0 steps: wear is extrapolated from at least one"):
        wear(worn_by(1), steps=0)


@pytest.mark.parametrize(("total", "warned"), [(199, False), (200, False), (201, True)])
def test_a_run_that_is_longer_than_a_device_is_warned_of(total, warned) -> None:
    """40 pulses in 80 steps: 60 more need 120 steps."""
    messages = told(worn_by(40), 80, total)
    assert len(messages) == warned
    if warned:
        assert messages[0].startswith(
            "'0': the first device will be worn out, after 100 pulses, in 120 of the 121 steps"
        )
        assert messages[0].endswith("(see docs/how-to/pulses.md#wear)")


def test_at_first_only_what_is_near_is_warned_of() -> None:
    assert told(worn_by(9, endurance=1000), 1, 10_000) == []  # 110 steps, if the rate stays
    assert len(told(worn_by(10, endurance=1000), 1, 10_000)) == 1
    assert len(told(worn_by(40), 80, 10_000)) == 1


def test_every_message_comes_once() -> None:
    net, known = worn_by(40), {}
    assert len(told(net, 80, 300, known)) == 1 and told(net, 80, 300, known) == []
    net[0].pulse_(torch.full((2, 3), 60))
    (message,) = told(net, 90, 300, known)
    assert message.startswith(
        "after 90 steps devices are worn out and do not change any more: 1 of 6 in '0'"
    )
    assert told(net, 95, 300, known) == [] and list(known) == ["wear of '0'", "worn devices"]


def test_second_devices_wear_out_as_well() -> None:
    net = nn.Sequential(Pulsed(nn.Linear(2, 2), varied(PULSED["ideal"], endurance=50)))
    optimiser = TTv2(net, lr=0.1)
    net[0].weight.grad = torch.ones(2, 2)
    optimiser.step()
    assert net[0].array.pulses.max() < net[0].fast.pulses.max() == wear(net, 1)["0"].largest
    assert wear(net, 1)["0"].devices == 8


WORN = {"writes": "ecram", "update": "sgd", "lr": 0.3, "write_endurance": 40}


def test_a_run_says_that_its_devices_will_wear_out_and_then_that_they_have(tmp_path) -> None:
    with pytest.warns(UserWarning, match="will be worn out|are worn out") as caught:
        folder = run(tmp_path / "run", epochs=20, **WORN)
    messages = [str(warning.message) for warning in caught]
    ahead = [message for message in messages if "will be worn out" in message]
    assert {message.split(":")[0] for message in ahead} == {"'1'", "'3'"}
    assert "devices are worn out" in messages[-1], "after all that said so before"
    assert len(messages) == 3
    summary = folder.summary()
    assert summary["worn_devices"] > 0 and len(summary["notes"]) >= 3
    assert all(any(note in message for message in messages) for note in summary["notes"][-3:])


def test_a_run_that_is_resumed_does_not_repeat_its_warnings(tmp_path, monkeypatch) -> None:
    with pytest.warns(UserWarning, match="worn out") as caught:
        interrupted(tmp_path / "run", monkeypatch, WORN | {"epochs": 10}, stops=3)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == len(set(messages)) == 3


def test_a_run_whose_devices_last_says_nothing(tmp_path) -> None:
    assert run(tmp_path / "run", **WORN | {"write_endurance": 10**6}).summary()["notes"] == []


def test_worn_devices_of_a_loop_of_ones_own() -> None:
    net = worn_by(0, endurance=3)
    optimiser = PulsedSGD(net, lr=1.0)
    for _ in range(3):
        for layer in net:
            layer.weight.grad = torch.full_like(layer.weight, 1e-3)
        optimiser.step()
    assert all(found.steps_left == 0 and found.worn for found in wear(net, 3).values())
