"""The same on a GPU, where there is one: estimates agree with the CPU's, and streams are saved."""

import copy

import pytest
import torch
from cases import Replay, flat, gradients, smooth_conv

from noisynets import NodePerturbation, decorrelate, squared_error
from noisynets.estimators.methods import METHODS
from noisynets.run.session import build
from noisynets.run.settings import Config, resolve
from noisynets.systems.catalogue import SYSTEMS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("rule", ["np", "inp", "anp"])
@pytest.mark.parametrize("decorrelated", [False, True])
def test_estimates_agree_with_the_cpu(rule: str, decorrelated: bool) -> None:
    net = smooth_conv(torch.Generator().manual_seed(0))
    net = decorrelate(net, demean=True) if decorrelated else net
    x, y = torch.randn(3, 2, 5, 5).double(), torch.randn(3, 2).double()
    noise = Replay()
    twin = copy.deepcopy(net).cuda()
    NodePerturbation(net, squared_error, rule, noise=noise)(x, y)
    replay = Replay([z.cuda() for z in noise.kept])
    NodePerturbation(twin, squared_error, rule, noise=replay)(x.cuda(), y.cuda())
    torch.testing.assert_close(flat(gradients(twin)).cpu(), flat(gradients(net)))


@pytest.mark.parametrize(
    ("rule", "system"),
    [
        *[(rule, "noisy-mlp" if rule.endswith("anp") else "mlp") for rule in METHODS],
        *[
            ("danp", name)
            for name, system in SYSTEMS.items()
            if name not in ("mlp", "noisy-mlp") and not system.acts
        ],
    ],
)
def test_a_session_continues_with_the_same_bits_and_never_waits(rule: str, system: str) -> None:
    config = resolve(Config(system=system, rule=rule, hidden=(16,), device="cuda"))
    session, twin = build(config), build(config)
    x, y = torch.rand(10, 1, 28, 28, device="cuda"), torch.arange(10, device="cuda")
    session.step_(x, y, 0.0)
    twin.restore_(session.state())
    twin.step_(x, y, 0.1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        session.step_(x, y, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(session.system.parameters(), twin.system.parameters(), strict=True):
        assert torch.equal(a, b)
