"""Encoders and read-outs against their definitions."""

import math

import pytest
import snntorch.spikegen
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisynets.core.errors import InputError
from noisynets.systems.spiking import (
    ENCODERS,
    FirstSpike,
    Leaky,
    MeanMembrane,
    MeanOutput,
    SpikeCount,
    current,
    delta,
    frames,
    latency,
    rate,
    trial,
)

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@given(shapes, st.integers(1, 12), st.sampled_from(["current", "rate", "latency", "delta"]))
@settings(max_examples=60, deadline=None)
def test_encoders_add_the_time_axis_after_the_batch_axis(shape, steps: int, name: str) -> None:
    x = torch.rand(3, *shape)
    spikes = ENCODERS[name](x, steps, torch.Generator().manual_seed(0))
    assert spikes.shape == (3, 1 if name == "current" else steps, *shape)
    if name in ("rate", "latency"):
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    if name == "delta":
        assert set(spikes.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_rate_has_its_probability_and_uses_the_given_generator() -> None:
    """Mean of 20,000 steps within 4 standard errors; the global stream is left alone."""
    x = torch.tensor([[0.0, 0.3, 0.9, 1.7]])
    before = torch.get_rng_state()
    spikes = rate(x, 20_000, torch.Generator().manual_seed(1), gain=0.5, offset=0.1)
    assert torch.equal(before, torch.get_rng_state())
    for share, p in zip(spikes.mean(1)[0].tolist(), (0.1, 0.25, 0.55, 0.95), strict=True):
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 20_000)
    again = rate(x, 20_000, torch.Generator().manual_seed(1), gain=0.5, offset=0.1)
    assert torch.equal(spikes, again)


def test_latency_agrees_with_snntorch() -> None:
    """Its linear code, normalised over T steps, with inputs below threshold left out."""
    x = torch.rand(4, 30)
    theirs = snntorch.spikegen.latency(
        x, num_steps=12, threshold=0.01, tau=1, normalize=True, linear=True, clip=True
    )
    ours = latency(x, 12)
    assert ours.shape == (4, 12, 30)
    assert (ours.transpose(0, 1) != theirs).float().mean() < 0.01  # rounding of halves


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=5), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_delta_sends_spikes_until_within_a_threshold(values: list[float], steps: int) -> None:
    x, threshold = torch.tensor([values], dtype=torch.float64), 0.1
    sent = torch.zeros_like(x)
    for s in delta(x, steps, threshold=threshold).unbind(1):
        far = (x - sent).abs() >= threshold * (1 - 1e-5)
        assert torch.equal(s != 0, far)
        sent = sent + threshold * s


def test_delta_sends_one_spike_per_threshold() -> None:
    k = torch.arange(1.0, 101.0)
    assert torch.equal(delta(0.1 * k.unsqueeze(0), 120).sum(1)[0], k)


def test_frames_sum_all_events_into_bins() -> None:
    x = torch.randint(3, (2, 12, 5), dtype=torch.int8)
    binned = frames(x, 4)
    assert binned.shape == (2, 4, 5) and binned.sum() == x.sum()
    assert torch.equal(binned[:, 0], x[:, :3].sum(1, dtype=torch.int8))
    assert frames(x, 12) is x


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rate(torch.tensor([[-0.1]]), 3), "inputs down to -0.1"),
        (lambda: latency(torch.tensor([[-0.1]]), 3), "inputs down to -0.1"),
        (lambda: rate(torch.ones(1, 1), 0), "steps 0 must be at least 1"),
        (lambda: current(torch.ones(1, 1), -1), "steps -1 must be at least 1"),
        (lambda: delta(torch.ones(1, 1), 0), "steps 0 must be at least 1"),
        (lambda: rate(torch.tensor([[math.nan]]), 3), "not NaN"),
        (lambda: delta(torch.ones(1, 1), 3, threshold=0.0), "threshold 0 of the delta"),
        (
            lambda: frames(torch.ones(1, 10, 1), 11),
            "can be summed into 1 to 10 bins",
        ),
    ],
)
def test_bad_inputs_are_refused_in_one_line(make, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_readouts_agree_with_their_definitions() -> None:
    torch.manual_seed(0)
    a = torch.randn(20, 4, 3, dtype=torch.float64)
    neuron = Leaky(0.8)
    with trial(neuron):
        spikes = torch.stack([neuron(x) for x in a])
    u, potentials = torch.zeros(4, 3, dtype=torch.float64), []
    for x in a:
        u = 0.8 * u + x
        potentials.append(u)
    silent = (spikes.cumsum(0) == 0).sum(0)
    for readout, expected in (
        (MeanMembrane(0.8), torch.stack(potentials).mean(0)),
        (SpikeCount(Leaky(0.8)), spikes.sum(0)),
        (FirstSpike(Leaky(0.8)), -silent.to(a.dtype)),
        (MeanOutput(), a.mean(0)),
    ):
        for _ in range(2):  # a second trial starts afresh
            with trial(readout):
                outputs = [readout(x) for x in a]
            torch.testing.assert_close(outputs[-1], expected.to(a.dtype))
