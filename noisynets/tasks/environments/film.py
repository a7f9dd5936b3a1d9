"""Pictures of an episode: what was seen, done and gained; and a film, where it can be drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from noisynets.tasks.environments.episodes import Episodes
from noisynets.tasks.environments.spaces import Array

FRAMES, WIDTH = 150, 300
"""Of a film, at most."""


@dataclass(frozen=True)
class Episode:
    """One episode, step by step.

    Attributes:
        seen: observations, (T, n).
        done: actions, (T, m).
        rewards: (T,).
        frames: pictures, (height, width, 3) each; none where the environment draws none.
        fps: frames per second of the environment's own time.
    """

    seen: Array
    done: Array
    rewards: Array
    frames: Sequence[Array]
    fps: float


def pictures(system: nn.Module, seed: int = 2_000_000) -> dict[str, bytes]:
    """Run one more episode, and draw it.

    Returns:
        File names and contents: episode.png, and episode.gif if the environment can be drawn.
    """
    assert isinstance(system, Episodes), "only what acts has episodes"
    found = run(system, seed)
    files = {"episode.png": drawn(found, f"{system.environment}, return {found.rewards.sum():g}")}
    return files | ({"episode.gif": film(found.frames, found.fps)} if found.frames else {})


def run(system: Episodes, seed: int) -> Episode:
    """Run an episode of a single environment."""
    env, frames = _single(system), list[Array]()
    try:
        observation, _ = env.reset(seed=seed)
        steps = []
        for _ in range(system.limit):
            if env.render_mode is not None:
                frames.append(np.asarray(env.render()))
            action = system.act(np.asarray(observation)[None])[0]
            following, reward, ended, cut, _ = env.step(action)
            steps.append((np.ravel(observation), np.ravel(action), float(reward)))
            observation = following
            if ended or cut:
                break
    finally:
        env.close()
    seen, done, rewards = zip(*steps, strict=True)
    fps = float(env.metadata.get("render_fps", 30))
    return Episode(np.stack(seen), np.stack(done), np.array(rewards), frames, fps)


def _single(system: Episodes) -> gymnasium.Env[Any, Any]:
    """Make one environment; one that can be drawn, if it can be."""
    try:
        env = gymnasium.make(system.environment, render_mode="rgb_array", **system.settings)
        env.reset(seed=0)
        env.render()  # only now a graphics library is missed
        return env
    except Exception:  # drawing is a gift: whatever stands in its way, the traces will do
        return gymnasium.make(system.environment, **system.settings)


def film(frames: Sequence[Array], fps: float) -> bytes:
    """Return a GIF, thinned out to `FRAMES` frames of `WIDTH` points.

    >>> film([np.zeros((40, 60, 3), dtype=np.uint8)] * 2, fps=50)[:3]
    b'GIF'
    """
    every = -(-len(frames) // FRAMES)
    made = []
    for frame in frames[::every]:
        image = Image.fromarray(frame)
        height = max(1, round(image.height * WIDTH / image.width))
        small = image if image.width <= WIDTH else image.resize((WIDTH, height))
        made.append(small.quantize(64))
    data = io.BytesIO()
    made[0].save(
        data,
        format="GIF",
        save_all=True,
        append_images=made[1:],
        duration=max(20, round(1000 * every / fps)),
        loop=0,
    )
    return data.getvalue()


def drawn(episode: Episode, title: str) -> bytes:
    """Return a PNG of what was seen, done and gained, against the steps."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    rows = (
        ("observation", episode.seen),
        ("action", episode.done),
        ("return so far", episode.rewards.cumsum()[:, None]),
    )
    for axes, (name, values) in zip(panels, rows, strict=True):
        if values.shape[1] > 12:  # as many as a raster shows better
            axes.imshow(values.T, aspect="auto", interpolation="nearest", cmap="Greys")
        else:
            axes.plot(values, lw=1, drawstyle="steps-post" if name == "action" else "default")
        axes.set(ylabel=name)
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    figure.suptitle(title)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return data.getvalue()
