"""The suite of pulsed devices: its cases, its chips, its columns and its picture."""

import csv
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import pytest
from PIL import Image
from tiny import TASK

from noisynets.bench import bench, read_suite
from noisynets.bench.page import bench_page
from noisynets.bench.results import as_csv, groups, markdown
from noisynets.bench.run import Result, Run
from noisynets.bench.suite import Suite
from noisynets.bench.table import read_results
from noisynets.bench.written import draw_writes
from noisynets.systems.pulses import PULSED
from noisynets.tasks.data import TASKS

RULES = {"mirrored", "kolen-pollack", "kalman", "dfa", "bp", "pat"}
UPDATES = ("sgd", "threshold", "ttv2", "agad")
SMALL = {"task": "tiny", "hidden": (8,), "epochs": 1, "batch_size": 60, "device": "cpu"}


PART = {
    "exact, sgd": "bp",
    "ecram, sgd": "mirrored",
    "reram-sb, threshold": "kolen-pollack",
    "pcm-mixed, ttv2": "dfa",
    "ecram, 30 states, agad": "pat",
    "ecram, asymmetry 0.4, sgd": "kalman",
}
"""Every rule, update and device of the suite, and its sweeps."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setitem(TASKS, "tiny", TASK)
    suite = read_suite("analog", SMALL | {"system": "mlp"})
    kept = [replace(e, tuned=True) for e in suite.entries if PART.get(e.case) == e.rule]
    return replace(suite, entries=tuple(kept), seeds=(0, 1))


def test_the_suite_has_every_rule_on_every_device_by_every_update() -> None:
    suite = read_suite("analog")
    found = {(e.config.writes, e.config.update, e.config.system, e.rule) for e in suite.entries}
    devices = PULSED.keys() - {"ideal"}
    assert found >= {
        (device, update, system, rule)
        for device in devices
        for update in UPDATES
        for system in ("mlp", "lenet")
        for rule in RULES
    }
    swept = {(e.config.write_states, e.config.write_asymmetry) for e in suite.entries}
    assert {(30, None), (100, None), (None, 0.2), (None, 0.4)} < swept
    assert {suite.tried(entry) for entry in suite.entries} == {4} and len(suite.seeds) == 3


def test_every_seed_has_devices_of_its_own() -> None:
    suite = read_suite("analog").only(["ecram, sgd"], ["bp"])
    (entry,) = suite.entries
    assert entry.config.preset == "distorted"
    read_exactly = replace(entry.config, device_preset="none")
    assert [suite.seeded(read_exactly, seed).device_seed for seed in suite.seeds] == [0, 1, 2]
    alike = replace(read_exactly, writes="ideal")
    assert suite.seeded(alike, 2).device_seed == 0, "all are the same"


def test_the_suite_runs_at_a_tiny_size(small: Suite, tmp_path: Path) -> None:
    found = bench(small, tmp_path, jobs=1, command="noisynets bench analog")
    assert {group.case: group.rule for group in found} == PART
    for group in found:
        counted = [result.summary.get("writes_per_weight") for result in group.compared]
        exact = group.case == "exact, sgd"
        assert group.writes == ([] if exact else counted) and len(counted) == 2
        assert exact or min(group.writes) > 0
    _table(tmp_path, found)


@pytest.mark.pictures
def test_accuracy_is_drawn_against_writes(small: Suite, tmp_path: Path) -> None:
    """A panel per system and device, those with exact weights as lines in all of them."""
    results = []
    for i, entry in enumerate(small.entries):
        run = Run(entry, "comparison", small.seeded(entry.config, 0), tmp_path / "runs" / str(i))
        written = {} if entry.config.writes is None else {"writes_per_weight": 3.0 * i}
        results.append(Result(run, {"test_accuracy": 0.9 - 0.1 * i} | written))
    draw_writes(tmp_path / "writes.png", groups(small, results)[1:3])  # of two devices
    draw_writes(tmp_path / "all.png", groups(small, results))  # of five
    heights = []
    for name in ("writes.png", "all.png"):
        with Image.open(tmp_path / name) as picture:
            low, high = picture.convert("L").getextrema()
            assert low < 100 < 250 < high, "something is drawn on white"
            heights.append(picture.height)
    assert heights[1] / heights[0] == pytest.approx(5 / 2, rel=0.05)


def _table(path: Path, found) -> None:
    """The files state what the runs counted."""
    rows = [row for row in read_results(path) if row.phase == "comparison"]
    read = {(r.case, r.rule, r.seed): r.writes for r in rows}
    for group in found:
        for result in group.compared:
            key = (group.case, group.rule, result.run.config.seed)
            assert read[key] == (result.summary or {}).get("writes_per_weight")
    text = (path / "results.md").read_text()
    head = next(line for line in text.splitlines() if line.startswith("| case"))
    assert "| train | writes per weight | sample-forwards |" in head
    lines = [line for line in text.splitlines() if line.startswith("| ") and line != head]
    assert len(lines) == len(found) and {line.count("|") for line in lines} == {head.count("|")}
    shown = lines[1].split("|")[8].split("±")[0]
    assert float(shown) == pytest.approx(mean(found[1].writes), rel=0.01)
    if find_spec("plotly") is None:  # of the extra `report`
        return
    (section, *_) = bench_page(path, path).sections
    assert "writes per weight" in section.blocks[0].heads


def test_suites_without_pulses_have_the_columns_of_before(tmp_path: Path) -> None:
    suite = read_suite("smoke")
    (entry,) = suite.only([], ["bp"]).entries
    run = Run(entry, "comparison", suite.seeded(entry.config, 0), tmp_path / "runs/bp")
    summary = {"val_accuracy": 0.5, "sample_forwards": 9, "seconds": 1.0}
    results = [Result(run, summary)]
    (head, row) = csv.reader(as_csv(suite, results).splitlines())
    assert head[-1] == row[-1].replace("bp", "folder") == "folder"
    assert "writes" not in markdown(suite, results, "")
    (tmp_path / "results.csv").write_text(as_csv(suite, results))
    assert [row.writes for row in read_results(tmp_path)] == [None]
    draw_writes(tmp_path / "writes.png", groups(suite, results)[-1:])
    assert not (tmp_path / "writes.png").exists()
