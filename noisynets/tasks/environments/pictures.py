"""Pictures of an episode: plots of observations, actions and return, and an animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from torch import nn

from noisynets.tasks.environments.episodes import Episodes
from noisynets.tasks.environments.spaces import Array

FRAMES, WIDTH = 150, 300
"""Largest number of frames of an animation, and its largest width in pixels."""


@dataclass(frozen=True)
class Episode:
    """Everything recorded in one episode of T steps.

    Attributes:
        observations: (T, n).
        actions: (T, m).
        rewards: (T,).
        frames: rendered images (height, width, 3); empty if the environment cannot be rendered.
        fps: frames per second at which the environment runs in real time.
    """

    observations: Array
    actions: Array
    rewards: Array
    frames: Sequence[Array]
    fps: float


def draw_episode(system: nn.Module, seed: int = 2_000_000) -> dict[str, bytes]:
    """Run one further episode and draw it.

    Args:
        system: a trained `Episodes`.
        seed: seed of the episode.

    Returns:
        File names and contents: episode.png, and episode.gif if the environment can be rendered.
    """
    assert isinstance(system, Episodes), "only systems of type Episodes run episodes"
    found = run_episode(system, seed)
    title = f"{system.environment}, return {found.rewards.sum():g}"
    files = {"episode.png": plot(found, title)}
    return files | ({"episode.gif": animation(found.frames, found.fps)} if found.frames else {})


def run_episode(system: Episodes, seed: int) -> Episode:
    """Run one episode in a single environment and record it."""
    env, frames = _single(system), list[Array]()
    try:
        observation, _ = env.reset(seed=seed)
        steps = []
        for _ in range(system.limit):
            if env.render_mode is not None:
                frames.append(np.asarray(env.render()))
            action = system.act(np.asarray(observation)[None])[0]
            following, reward, terminated, truncated, _ = env.step(action)
            steps.append((np.ravel(observation), np.ravel(action), float(reward)))
            observation = following
            if terminated or truncated:
                break
    finally:
        env.close()
    observations, actions, rewards = zip(*steps, strict=True)
    fps = float(env.metadata.get("render_fps", 30))
    return Episode(np.stack(observations), np.stack(actions), np.array(rewards), frames, fps)


def _single(system: Episodes) -> gymnasium.Env[Any, Any]:
    """Make one environment, with rendering if that works."""
    try:
        env = gymnasium.make(system.environment, render_mode="rgb_array", **system.settings)
        env.reset(seed=0)
        env.render()  # fails here if a graphics library is missing
        return env
    except Exception:  # without rendering, episode.png is still drawn
        return gymnasium.make(system.environment, **system.settings)


def animation(frames: Sequence[Array], fps: float) -> bytes:
    """Return a GIF of at most `FRAMES` frames, each at most `WIDTH` pixels wide.

    Args:
        frames: images (height, width, 3), uint8.
        fps: frames per second; frames that are left out do not change the speed.

    >>> animation([np.zeros((40, 60, 3), dtype=np.uint8)] * 2, fps=50)[:3]
    b'GIF'
    """
    from PIL import Image

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


def plot(episode: Episode, title: str) -> bytes:
    """Return a PNG with observations, actions and return so far against the step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    rows = (
        ("observation", episode.observations),
        ("action", episode.actions),
        ("return so far", episode.rewards.cumsum()[:, None]),
    )
    for axes, (name, values) in zip(panels, rows, strict=True):
        if values.shape[1] > 12:  # too many for lines: an image
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
