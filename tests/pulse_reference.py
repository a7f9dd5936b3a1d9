"""Pulses and updates of one weight after the other, in plain Python floats, from the equations."""

import torch

from noisynets.systems.pulses import PulsedArray


class Devices:
    """A matrix of devices without noise."""

    def __init__(self, array: PulsedArray) -> None:
        d = array.device
        assert not d.cycle and not d.write_noise
        self.step = d.step
        self.rows, self.columns = array.w.shape
        names = ("w", "up", "down", "slope_up", "slope_down", "low", "high")
        self.values = {n: getattr(array, n).double().tolist() for n in names}

    def w(self, i: int, j: int) -> float:
        return self.values["w"][i][j]

    def pulse(self, i: int, j: int, n: int) -> None:
        v = {name: table[i][j] for name, table in self.values.items()}
        w = v["w"]
        for _ in range(abs(n)):
            if n > 0:
                w = w + v["up"] + v["slope_up"] * w
            else:
                w = w - v["down"] - v["slope_down"] * w
            w = min(max(w, v["low"]), v["high"])
        self.values["w"][i][j] = w

    def weights(self, scale: float) -> torch.Tensor:
        return scale * torch.tensor(self.values["w"], dtype=torch.float64)


def towards_zero(value: float, burst: int = 31) -> int:
    return max(min(int(value), burst), -burst)


def nearest(devices: Devices, gradients: list[torch.Tensor], lr: float, scale: float) -> None:
    """Gradient descent with counts rounded to the nearest."""
    for g in gradients:
        for i in range(devices.rows):
            for j in range(devices.columns):
                n = round(-lr * float(g[i, j]) / (scale * devices.step))
                devices.pulse(i, j, max(min(n, 31), -31))


def accumulated(
    devices: Devices,
    gradients: list[torch.Tensor],
    lr: float,
    scale: float,
    threshold: float = 1.0,
    every: int = 1,
    read_back: bool = False,
) -> list[list[float]]:
    """Accumulate in χ, write whole steps when |χ| is large enough; return χ."""
    one = scale * devices.step
    chi = [[0.0] * devices.columns for _ in range(devices.rows)]
    for t, g in enumerate(gradients):
        for i in range(devices.rows):
            for j in range(devices.columns):
                chi[i][j] -= lr * float(g[i, j])
                if (t + 1) % every or abs(chi[i][j]) < threshold * one:
                    continue
                n, before = towards_zero(chi[i][j] / one), devices.w(i, j)
                devices.pulse(i, j, n)
                written = scale * (devices.w(i, j) - before)
                chi[i][j] -= written if read_back else n * one
    return chi


def rounded(value: float) -> int:
    return max(min(round(value), 31), -31)


def transferred(
    a: Devices,
    c: Devices,
    gradients: list[torch.Tensor],
    lr: float,
    scale: float,
    *,
    sweep: int,
    rate: float,
    buffer: float | None,
    period: int | None = None,
    forget: float | None = None,
) -> None:
    """Tiki-Taka without a buffer; TTv2 with a threshold; chopped with a period; AGAD with β.

    Every column has its own count of reads, its own chopper and its own memory of both.
    """
    one, columns = scale * a.step, range(a.columns)
    h = [[0.0] * a.columns for _ in range(a.rows)]
    past = [[0.0] * a.columns for _ in range(a.rows)]
    mean = [[0.0] * a.columns for _ in range(a.rows)]
    chopper, reads, switched = [1 for _ in columns], [0 for _ in columns], [False for _ in columns]
    number, j = -(-a.columns // sweep), 0
    for g in gradients:
        for i in range(a.rows):
            for k in columns:
                a.pulse(i, k, rounded(-lr * chopper[k] * float(g[i, k]) / one))
        for _ in range(number):
            for i in range(a.rows):
                value = scale * a.w(i, j)
                if forget is not None:
                    if switched[j]:
                        past[i][j] = mean[i][j]
                    mean[i][j] = (1 - forget) * mean[i][j] + forget * value
                    value -= past[i][j]
                if buffer is None:
                    c.pulse(i, j, rounded(rate * lr * value / one))
                    continue
                h[i][j] += rate * lr * chopper[j] * value
                n = towards_zero(h[i][j] / (buffer * one))
                h[i][j] -= n * buffer * one
                c.pulse(i, j, n)
            reads[j] += 1
            switched[j] = period is not None and reads[j] % period == 0
            chopper[j] = -chopper[j] if switched[j] else chopper[j]
            j = (j + 1) % a.columns
