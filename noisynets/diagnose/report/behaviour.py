"""What the trained system of a run does: confusion, mistakes, filters, spikes, texts, pictures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from torch import Tensor

from noisynets.core.reading import read_bytes, read_text
from noisynets.diagnose.images import coloured, first_filters, has_pictures, picture
from noisynets.diagnose.predictions import Predictions, classifies, judged_part, predictions
from noisynets.diagnose.vision_picture import MISTAKES, WRITTEN, caption
from noisynets.run.evaluate import recorded, threads
from noisynets.run.folder import LONGEST, RunFolder
from noisynets.run.page import Block, Gallery, Picture, Section, Table, Text, heatmap, raster
from noisynets.run.session import Session
from noisynets.run.train import open_trained
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.spiking import Recording
from noisynets.tasks.data import Examples

SPIKES = 6000
"""Spikes of a population that are drawn, about; of more, those of every second neuron, or third."""
PNG = b"\x89PNG\r\n\x1a\n"


def behaviour(folder: RunFolder, device: str | None) -> tuple[Section, ...]:
    """Run the checkpoint of a run, and return what is seen, a section for each kind.

    Args:
        folder: of the run, with a checkpoint.
        device: instead of the run's own.
    """
    session = open_trained(folder, device)
    spiking, classes = SYSTEMS[session.config.system].spiking, classifies(session.task)
    found = []
    if spiking or classes:
        part, examples = judged_part(session.config)
        with threads(session):
            if classes:
                found.append(Section("Classes", _classes(session, part, examples)))
            populations = recorded(session, examples) if spiking else []
        found.append(Section("Spikes", _spikes(populations, part)))
    return (*found, Section("Files of the run", _files(folder)))


def _classes(session: Session, part: str, examples: Examples) -> tuple[Block, ...]:
    """Return the confusion matrix, accuracy by class, mistakes and filters."""
    seen = predictions(session, part, examples)
    blocks: list[Block] = [_confusion(seen), _by_class(seen)]
    worst = seen.worst(MISTAKES)
    if worst and has_pictures(session.task.input_shape) and examples.x.dim() == 4:
        pictures = tuple(_mistake(seen, examples, index) for index in worst)
        wrong = int((seen.labels != seen.predicted).sum())
        what = f"The {len(worst)} of {wrong:,} mistakes on {part} examples with the highest loss"
        blocks.append(Gallery(what, pictures, width=112, pixelated=True))
    filters = first_filters(session.system, session.task.input_shape)
    if filters is not None:
        tiles = tuple(
            Picture(png(coloured(w)), f"filter {i + 1}") for i, w in enumerate(filters.weights)
        )
        blocks.append(Gallery(f"First layer: {caption(filters)}", tiles, width=64, pixelated=True))
    return tuple(blocks)


def _confusion(seen: Predictions) -> Block:
    counts = seen.confusion
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    cells = counts.tolist()
    hover = [
        [
            f"{n:,} of class {true} taken for {taken}"
            for taken, n in zip(seen.names, row, strict=True)
        ]
        for true, row in zip(seen.names, cells, strict=True)
    ]
    written = [[str(n) for n in row] for row in cells] if seen.classes <= WRITTEN else ()
    what = f"Confusion matrix of {len(seen.labels):,} {seen.part} examples"
    values = shares.tolist()
    return heatmap(
        what, values, hover, "predicted class", "true class", names=seen.names, written=written
    )


def _by_class(seen: Predictions) -> Block:
    rows = []
    for label, (row, right) in enumerate(zip(seen.confusion, seen.by_class, strict=True)):
        others = row.clone()
        others[label] = 0
        most = seen.names[int(others.argmax())]
        taken = f"{most} ({int(others.max()):,})" if others.any() else "–"
        accuracy = "–" if right is None else f"{100 * right:.2f} %"
        rows.append((seen.names[label], f"{int(row.sum()):,}", accuracy, taken))
    heads = ("class", "examples", "accuracy", "most often taken for")
    what = f"Accuracy by class in this evaluation; all: {100 * seen.accuracy:.2f} %"
    return Table(what, heads, tuple(rows), narrow=True, folded=seen.classes > WRITTEN)


def _mistake(seen: Predictions, examples: Examples, index: int) -> Picture:
    true, taken = seen.mistake(index)
    words = f"is {true}, taken for {taken}"
    pixels = picture(examples, index).permute(1, 2, 0)
    return Picture(png(pixels), f"example that {words}", f"{words}, loss {seen.losses[index]:.2f}")


def _spikes(populations: list[Recording], part: str) -> tuple[Block, ...]:
    """Return a raster of each population in one trial, and a table of rates."""
    blocks: list[Block] = []
    for found in populations:
        spikes = found.spikes.flatten(2)[0].cpu()
        total, (steps, neurons) = int(spikes.sum()), spikes.shape
        every = max(1, round(total / SPIKES))
        when, which = spikes[:, ::every].nonzero(as_tuple=True)
        which = which * every
        some = f", every {every}th neuron" if every > 1 else ""
        what = f"Spikes of {found.name} in one trial ({neurons} neurons{some}; {part} example)"
        blocks.append(raster(what, when.tolist(), which.tolist(), (steps, neurons)))
    if not blocks:
        return ()
    rows = tuple((r.name, str(r.spikes.flatten(2).shape[2]), f"{r.rate:.4f}") for r in populations)
    trials = len(populations[0].spikes)
    heads = ("population", "neurons", "spikes per neuron and step")
    return (*blocks, Table(f"Mean firing rates over {trials} {part} trials", heads, rows))


def _files(folder: RunFolder) -> tuple[Block, ...]:
    """Return the texts and pictures that the task has left in the folder."""
    summary: dict[str, Any] = folder.summary() or {}
    drawn = {folder.curves.name, folder.spikes.name}
    blocks: list[Block] = []
    for name in summary.get("pictures") or []:
        path = folder.path / name
        if name in drawn or not path.is_file():
            continue
        if path.suffix == ".txt":
            blocks.append(Text(f"{name}: a sample of what it generates", read_text(path)))
        elif (data := read_bytes(path, limit=LONGEST)).startswith(PNG):
            what = f"{name}, drawn by the task at the end of training"
            blocks.append(Gallery(what, (Picture(data, what),)))
    return tuple(blocks)


def png(pixels: Tensor) -> bytes:
    """Return pixels (h, w, 1 or 3) from 0 to 1 as a PNG."""
    from PIL import Image

    values = np.round(255 * pixels.clamp(0, 1).numpy()).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(file, format="PNG")
    return file.getvalue()
