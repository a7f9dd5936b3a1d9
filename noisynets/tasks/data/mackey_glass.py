"""Mackey-Glass: prediction of a chaotic series one step ahead, then in free runs.

    ẋ = 0.2 x(t − τ)/(1 + x(t − τ)¹⁰) − 0.1 x,    x(t) = 0.7206597 for t ≤ 0

In a free run the system's own predictions are its next inputs. Sampling and evaluation follow
NeuroBench: 75 points per Lyapunov time, and the symmetric percentage error of free runs over 10
Lyapunov times. The series is integrated here by the Runge-Kutta method.

Source: Mackey and Glass, Science 197 (1977); Yik et al., Nature Communications 16 (2025).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisynets.tasks.data.measure import NMSE, percentage_error
from noisynets.tasks.data.task import Closing, Examples, Predictor, Task

TAU = 17.0
LYAPUNOV_TIME, PER_TIME = 197.0, 75
START = 0.7206597
WINDOW, RUN, STARTS = 50, 10 * PER_TIME, 10
TRAIN, PART = 20 * PER_TIME, 20 * PER_TIME
STEP = 0.1
LIMITS = (0.0, 2.0)  # range to which the values of a free run are clipped


def series(
    n: int,
    tau: float = TAU,
    interval: float = LYAPUNOV_TIME / PER_TIME,
    transient: int = 10,
) -> NDArray[np.float64]:
    """Integrate the equation and sample it at equal intervals.

    Uses the classical Runge-Kutta method with steps of about 0.1 (τ/170 for τ = 17); values within
    a step are interpolated linearly.

    Args:
        n: number of values.
        tau: delay τ.
        interval: time between two values.
        transient: time before the first value, in units of τ.

    Returns:
        Values (n,).

    >>> values = series(300)
    >>> bool((values > 0.2).all() and (values < 1.4).all())
    True
    """
    lag = max(1, round(tau / STEP))
    h = tau / lag
    total = transient * lag + math.ceil(n * interval / h) + 1
    x = np.full(lag + total + 1, START)

    def slope(now: float, then: float) -> float:
        return 0.2 * then / (1 + then**10) - 0.1 * now

    for t in range(lag, lag + total):
        now, before, after = x[t], x[t - lag], x[t - lag + 1]
        middle = (before + after) / 2
        k1 = slope(now, before)
        k2 = slope(now + h / 2 * k1, middle)
        k3 = slope(now + h / 2 * k2, middle)
        k4 = slope(now + h * k3, after)
        x[t + 1] = now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    times = transient * tau + interval * np.arange(n)
    return np.interp(times, h * (np.arange(len(x)) - lag), x)


@lru_cache(maxsize=1)
def _whole() -> Tensor:
    """Return the values of all three parts, one after another."""
    n = WINDOW + TRAIN + 2 * (PART + WINDOW)
    return torch.from_numpy(series(n)).float()


def part_values(part: str) -> Tensor:
    """Return the values of one part, with the window before its first prediction."""
    start = {"train": 0, "val": TRAIN + WINDOW, "test": TRAIN + PART + 2 * WINDOW}[part]
    length = WINDOW + (TRAIN if part == "train" else PART)
    return _whole()[start : start + length]


@lru_cache(maxsize=1)
def scales() -> tuple[float, float, float]:
    """Return mean and standard deviation of the training values, and that of their increments."""
    values = part_values("train")
    return float(values.mean()), float(values.std()), float(values.diff().std())


def standardised(past: Tensor) -> Tensor:
    """Standardise windows of values, (n, WINDOW), by mean and deviation of the training values."""
    mean, std, _ = scales()
    return (past - mean) / std


def windows(values: Tensor) -> Examples:
    """Return every window of past values with the increment to the next value, standardised.

    Args:
        values: consecutive values of the series, (n + WINDOW,).

    Returns:
        Windows (n, WINDOW) and increments (n, 1).
    """
    x = values.unfold(0, WINDOW + 1, 1)
    return Examples(standardised(x[:, :-1]), x.diff()[:, -1:] / scales()[2])


def load(part: str, folder: Path | None = None) -> Examples:
    """Return the windows for training and validation, or the test windows.

    Args:
        part: 'train' or 'test'.
        folder: ignored.
    """
    if part == "test":
        return windows(part_values("test"))
    made = [windows(part_values("train")), windows(part_values("val"))]
    return Examples(torch.cat([m.x for m in made]), torch.cat([m.y for m in made]))


def free_run(predict: Predictor, part: str) -> float:
    """Return the mean percentage error of 10 free runs over 10 Lyapunov times each.

    Args:
        predict: standardised windows (B, WINDOW) → standardised increments (B, 1).
        part: 'val' or 'test', from which the 10 starting windows are taken.

    Returns:
        Symmetric mean absolute percentage error, in percent.
    """
    values = part_values(part)
    firsts = torch.linspace(0, len(values) - WINDOW - RUN, STARTS).long()
    past = torch.stack([values[i : i + WINDOW] for i in firsts])
    truth = torch.stack([values[i + WINDOW : i + WINDOW + RUN] for i in firsts])
    found = []
    for _ in range(RUN):
        step = predict(standardised(past)).detach().to(past) * scales()[2]
        following = (past[:, -1:] + step).clamp(*LIMITS)
        found.append(following)
        past = torch.cat([past[:, 1:], following], 1)
    return float(percentage_error(torch.cat(found, 1), truth).mean())


MACKEY_GLASS = Task(
    name="mackey-glass",
    summary="one-step prediction of a chaotic series (nmse), free runs (free_run_smape, in %)",
    input_shape=(WINDOW,),
    classes=1,
    load=load,
    validation=PART,
    measure=NMSE,
    closing=Closing("free_run_smape", free_run),
    reference="free runs over 10 Lyapunov times, NeuroBench's own series: LSTM 13.4, echo state "
    "network 14.8 (Yik et al. 2025)",
)
