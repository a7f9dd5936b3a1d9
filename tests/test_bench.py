"""Suites: read from files, searched with equal budgets, resumed, and put into tables."""

import csv
import json
import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TASK

from noisynets import cli
from noisynets.bench import SUITES, bench, read_suite, summaries
from noisynets.bench import run as bench_run
from noisynets.bench.results import markdown
from noisynets.bench.run import make
from noisynets.bench.search import Point, compass
from noisynets.bench.tracing import networks
from noisynets.core.errors import InputError
from noisynets.run.trust import Trust
from noisynets.tasks.data import TASKS

SUITE = """
summary = "for tests"
rules = ["anp", "danp", "bp"]
seeds = [3, 4]

[search]
candidates = 4
epochs = 1

[settings]
task = "tiny"
system = "mlp"
hidden = [8]
epochs = 2
batch_size = 20
device = "cpu"
sigma = 0.01

[rule.bp]
lr = 1e-2

[[case]]
name = "shallow"
at = { layers = 1 }

[[case]]
name = "deep"
hidden = [8, 8]
at = { layers = 2 }
tuned.bp = { lr = 0.02 }
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(TASKS, "tiny", TASK)
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return path


# --- search ------------------------------------------------------------------------------------


def searched(search, score) -> dict[Point, float]:
    """Carry a search through."""
    found: dict[Point, float] = {}
    points = next(search)
    while True:
        scores = {point: score(point) for point in points}
        assert not found.keys() & scores.keys(), "nothing is tried twice"
        found |= scores
        try:
            points = search.send(scores)
        except StopIteration:
            return found


@settings(max_examples=50, deadline=None)
@given(
    st.floats(-7, 0),
    st.floats(-4, 0),
    st.integers(1, 20),
    st.sampled_from([["lr"], ["lr", "sigma"], ["lr", "decor_lr", "sigma"]]),
)
def test_every_rule_gets_as_many_candidates(best_lr, best_sigma, candidates, names) -> None:
    def score(p: Point) -> float:
        return -((math.log10(p.lr) - best_lr) ** 2) - (math.log10(p.sigma) - best_sigma) ** 2

    found = searched(compass(Point(1e-3, 1e-2, 1e-4), names, candidates), score)
    assert len(found) == candidates or 7 <= len(found) < candidates  # nothing finer to try
    assert all(p.lr > 0 and p.sigma > 0 and p.decor_lr > 0 for p in found)
    for name in {"lr", "sigma", "decor_lr"} - set(names):
        assert len({getattr(p, name) for p in found}) == 1


def test_a_search_comes_close_to_the_best_rate() -> None:
    """Within a factor 1.4 of a best rate 30 times lower, in 12 candidates; divergence is −∞."""
    found = searched(
        compass(Point(3e-2, None, None), ["lr"], 12),
        lambda p: -math.inf if p.lr > 0.02 else -abs(math.log(p.lr / 1e-3)),
    )
    assert 1 / 1.4 < max(found, key=found.get).lr / 1e-3 < 1.4


def test_a_search_leaves_a_region_where_everything_diverges() -> None:
    """From a rate 3,000 times too high, in 8 candidates."""
    found = searched(
        compass(Point(1.0, None, None), ["lr"], 8), lambda p: -math.inf if p.lr > 3e-4 else p.lr
    )
    assert max(found.values()) > 0


# --- files -------------------------------------------------------------------------------------


def test_the_suites_of_the_package_say_what_they_show() -> None:
    assert {"smoke", "mnist", "cifar10", "spiking", "scaling", "paper"} <= SUITES.keys()
    assert all(len(summary) > 20 for summary in summaries().values())
    for name in SUITES.keys() - {"events", "sarcos"}:
        assert read_suite(name).entries
    for name in ("events", "sarcos"):
        with pytest.raises(InputError, match="--data-dir"):
            read_suite(name)


@pytest.mark.parametrize("name", ["transformers", "transformers-gpu"])
def test_the_transformers_run_at_a_tiny_size(name: str, tmp_path: Path) -> None:
    """Every case and rule, whose real size takes hours or a GPU: two steps on a small text."""
    (tmp_path / "text.txt").write_text(60 * "the cat sat on the mat; the dog sat on the log.\n")
    small = {"layers": 1, "width": 8, "heads": 2, "context": 8, "batch_size": 2, "device": "cpu"}
    short = {"epochs": 1, "steps_per_epoch": 2, "product_dtype": None}
    own = {"task": "text", "data_dir": str(tmp_path / "text.txt")}
    suite = read_suite(name, small | short | own, Trust(everything=True))
    entries = tuple({entry.rule: entry for entry in suite.entries}.values())
    suite = replace(suite, entries=entries, candidates=1, seeds=(0,))
    groups = bench(suite, tmp_path / "out", jobs=1)
    assert {group.rule for group in groups} == {entry.rule for entry in read_suite(name).entries}
    assert all(math.isfinite(group.compared[0].summary["test_loss"]) for group in groups)


def test_the_paper_suite_has_every_rule_and_the_authors_settings() -> None:
    entries = {entry.rule: entry.config for entry in read_suite("paper").entries}
    rules = ("np", "inp", "anp", "bp")
    assert entries.keys() >= {*rules, *(f"d{rule}" for rule in rules), "frozen", "dfa", "fa"}
    for config in entries.values():
        assert (config.batch_size, config.slope, config.init) == (1000, 0.2, "he")
        assert config.hidden == (1024, 1024, 1024) and config.schedule == "constant"
    assert entries["danp"].decor_lr == 1e-3 and entries["danp"].sigma == 1e-3


def test_the_rates_of_a_case_are_its_candidates(suite: Path, tmp_path: Path) -> None:
    """No search: every rule tries them, and the best on validation is compared."""
    rates = "hidden = [8, 8]\nrates = [1e-3, 1e-1, 1e-2]"
    suite.write_text(SUITE.replace("hidden = [8, 8]", rates))
    chosen = replace(read_suite(str(suite)).only(["deep"], ["anp"]), seeds=(3,))
    assert chosen.tried(chosen.entries[0]) == 3
    for most, expected in ((4, {1e-3, 1e-1, 1e-2}), (2, {1e-3, 1e-1})):
        (group,) = bench(replace(chosen, candidates=most), tmp_path / str(most), jobs=1)
        assert {runs[0].run.config.lr for runs in group.candidates} == expected
        said = markdown(replace(chosen, candidates=most), [*group.compared], "mine")
        assert f"from {len(expected)} candidates per rule and case" in said
        assert group.compared[0].run.config.lr == group.candidates[0][0].run.config.lr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds", "sedes", "unknown key 'sedes': did you mean 'seeds'"),
        ("epochs = 2", "epoch = 2", "unknown setting in case 'shallow' 'epoch'"),
        ('"anp", ', '"amp", ', "unknown rule in case 'shallow' 'amp': did you mean 'anp'"),
        ("hidden = [8]", 'hidden = "8"', "case 'shallow'"),
        ("candidates = 4", "candidates = 0", "candidates 0 must be a whole number"),
        ("seeds = [3, 4]", "seeds = []", "must be a list of at least one"),
        ("seeds = [3, 4]", "seeds = [3, 3]", "one is twice"),
        ("seeds = [3, 4]", "seeds = 3", "must be a list of at least one"),
        ("epochs = 2", "epochs = 2.5", "epochs = 2.5 has the wrong type"),
        ('task = "tiny"', "task = 3", "task = 3 has the wrong type"),
        ("[rule.bp]\nlr = 1e-2", "[rule]\nbp = 3", "'bp' must be a table"),
        ("sigma = 0.01", "final_fit = true", "leaves nothing to choose"),
        ("hidden = [8, 8]", 'rules = "anp"', "are no list of rules"),
        ("hidden = [8, 8]", "rates = [0.0]", "are no list of positive numbers"),
        ("hidden = [8, 8]", "rates = [0.1, 0.1]", "one is twice"),
        ('name = "deep"', 'name = "shallow"', "twice: names must differ"),
        ('name = "deep"', 'name = "shallow."', "twice: names must differ"),
        ('name = "deep"', "", "has no name"),
        ("layers = 2", 'layers = "two"', "no number"),
        ("sigma = 0.01", "sigma = -1", "--sigma -1 must be positive"),
        ("[settings]", "[settings", "cannot be read"),
        ('task = "tiny"', 'task = "tinny"', "unknown task"),
        ("tuned.bp = { lr = 0.02 }", "tuned = 3", "must be a table"),
    ],
)
def test_what_is_wrong_in_a_suite_is_said_in_a_line(suite, old, new, words, capsys) -> None:
    suite.write_text(SUITE.replace(old, new))
    with pytest.raises(SystemExit) as error:
        cli.main(["bench", str(suite), "--jobs", "1"])
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and "mine.toml" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smok"], "unknown suite 'smok': did you mean 'smoke'"),
        (["nowhere.toml"], "nowhere.toml: cannot be read"),
        (["smoke", "--rules", "np"], "unknown rule of the suite 'np'"),
        (["smoke", "--cases", "x"], "unknown case 'x'"),
        (["smoke", "--candidates", "0"], "--candidates 0 must be at least 1"),
        (["smoke", "--epochs", "0"], "--epochs 0 must be at least 1"),
        (["smoke", "--quick"], "--quick and --threads are settings of speed alone"),
        (["speed", "--threads", "0"], "--threads 0 must be at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments, words, capsys) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(["bench", *arguments])
    assert error.value.code == 2 and words in capsys.readouterr().err


# --- runs --------------------------------------------------------------------------------------


@pytest.mark.pictures
def test_a_suite_is_run_once_and_goes_on_where_it_stopped(
    suite: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    out, made = tmp_path / "out", []

    def counted(run):
        if len(made) == 7:
            raise KeyboardInterrupt
        made.append(run)
        return make(run)

    monkeypatch.setattr(bench_run, "make", counted)
    arguments = ["bench", str(suite), "--jobs", "1", "--out", str(out)]
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    assert (out / "results.csv").is_file()
    monkeypatch.setattr(bench_run, "make", make)
    times = {p: p.stat().st_mtime_ns for p in out.rglob("summary.json")}
    assert len(times) == 7
    cli.main(arguments)
    assert all(p.stat().st_mtime_ns == time for p, time in times.items())
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    searches = [row for row in rows if row["phase"] == "search"]
    assert len(searches) == 5 * 4 and {row["seed"] for row in searches} == {"3"}
    assert all(row["test"] == "" and row["epochs"] == "1" for row in searches)
    compared = [row for row in rows if row["phase"] == "comparison"]
    assert len(compared) == 6 * 2 and all(row["test"] for row in compared)
    for case, rule in {(row["case"], row["rule"]) for row in rows}:
        own = [row for row in searches if (row["case"], row["rule"]) == (case, rule)]
        most = max((float(row["val"]) for row in own), default=0)
        best = {float(row["lr"]) for row in own if float(row["val"]) == most} or {0.02}
        (chosen,) = {row["lr"] for row in compared if (row["case"], row["rule"]) == (case, rule)}
        assert float(chosen) in best
    table = (out / "results.md").read_text()
    assert "| deep | anp |" in table and "| bp° | 0.02 | – | – |" in table
    for picture in ("curves.png", "rates.png", "axes.png"):
        assert (out / picture).stat().st_size > 10_000


def test_tables_keep_what_was_run_before(suite: Path, tmp_path: Path, capsys) -> None:
    """A part on its own, then another: the tables hold both, and say what is missing."""
    out = tmp_path / "out"

    def rows() -> set[tuple[str, str]]:
        text = (out / "results.csv").read_text().splitlines()
        return {(row["case"], row["rule"]) for row in csv.DictReader(text)}

    for rule, expected in (("bp", {("deep", "bp")}), ("anp", {("deep", "bp"), ("deep", "anp")})):
        cli.main(
            ["bench", str(suite), "--cases", "deep", "--rules", rule, "--jobs", "1"]
            + ["--out", str(out)]
        )
        assert rows() == expected
    table = (out / "results.md").read_text()
    assert "So far 2 of 6 rows" in table and f"noisynets bench {suite}\n" in table
    with FileLock(out / ".lock"), pytest.raises(SystemExit) as error:
        cli.main(["bench", str(suite), "--out", str(out)])
    assert error.value.code == 2 and "in use by another process" in capsys.readouterr().err


def test_a_candidate_that_is_resumed_leaves_the_test_set_alone(suite: Path, tmp_path) -> None:
    bench(read_suite(str(suite)).only(["deep"], ["anp"]), tmp_path / "out")
    candidate = next((tmp_path / "out").rglob("*search"))
    (candidate / "summary.json").unlink()
    cli.main(["resume", str(candidate)])
    assert json.loads((candidate / "summary.json").read_text())["test_accuracy"] is None


def test_what_diverges_is_counted(suite: Path, tmp_path: Path) -> None:
    text = SUITE.replace("tuned.bp = { lr = 0.02 }", "tuned.anp = { lr = 1e6 }")
    suite.write_text(text)
    chosen = read_suite(str(suite)).only(["deep"], ["anp", "bp"])
    found = bench(chosen, tmp_path / "out", command="mine")
    assert [result.summary for result in found[0].compared] == [None, None]
    made = [r for g in found for r in (*chain(*g.candidates), *g.compared)]
    table = markdown(chosen, made, "mine")
    assert "– (2 of 2 diverged)" in table
    rows = csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines())
    assert {row["diverged"] for row in rows if row["rule"] == "anp"} == {"True"}


def test_candidates_are_judged_by_the_mean_of_their_seeds(suite: Path, tmp_path: Path) -> None:
    """Of every rate a run per seed; what is compared has the rate with the best mean."""
    suite.write_text(SUITE.replace("[search]", "[search]\nseeds = [7, 8]"))
    chosen = read_suite(str(suite)).only(["shallow"], ["bp"])
    (found,) = bench(chosen, tmp_path / "out", command="mine")
    means = {}
    for runs in found.candidates:
        assert [run.run.config.seed for run in runs] == [7, 8]
        (lr,) = {run.run.config.lr for run in runs}
        means[lr] = sum(run.summary["val_accuracy"] for run in runs) / 2
    assert len(means) == 4 and means[found.config.lr] == max(means.values())
    assert [run.run.config.seed for run in found.compared] == [3, 4]
    table = (tmp_path / "out" / "results.md").read_text()
    assert "validation, the mean of seeds 7, 8, from 4 candidates" in table


def test_runs_with_other_settings_are_not_mixed_in(suite: Path, tmp_path: Path) -> None:
    chosen = read_suite(str(suite)).only(["deep"], ["bp"])
    bench(chosen, tmp_path / "out")
    suite.write_text(SUITE.replace("batch_size = 20", "batch_size = 30"))
    with pytest.raises(InputError, match="was run with other settings"):
        bench(read_suite(str(suite)).only(["deep"], ["bp"]), tmp_path / "out")


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """Short runs, bit by bit."""
    path = tmp_path / "short.toml"
    path.write_text(
        '[settings]\ntask = "yinyang"\nepochs = 1\nbatch_size = 1000\nhidden = [4]\n'
        '[[case]]\nname = "a"\n'
        'rules = ["mirrored", "bp"]\ntuned.mirrored = {lr = 1e-2}\ntuned.bp = {lr = 1e-2}\n'
    )
    chosen = read_suite(str(path), {"device": "cpu"})
    scores = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        scores.append([group.values("test") for group in bench(chosen, out, jobs=jobs)])
    assert scores[0] == scores[1] and len(scores[0][0]) == 3


def test_values_with_several_outputs_get_a_table_of_their_own(tmp_path: Path) -> None:
    x = torch.randn(400, 21, generator=torch.Generator().manual_seed(0)).double().numpy()
    np.savez(tmp_path / "arm.npz", x=x, y=x[:, :7] + x[:, 7:14])
    changes = {"data_dir": str(tmp_path / "arm.npz"), "epochs": 2, "device": "cpu"}
    chosen = read_suite("sarcos", changes).only([], ["frozen"])
    found = bench(chosen, tmp_path / "out")
    (path,) = {r.run.path for r in found[0].compared[:1]}
    each = json.loads((path / "summary.json").read_text())["test_nmse_by_output"]
    whole = json.loads((path / "summary.json").read_text())["test_nmse"]
    assert len(each) == 7 and sum(each) / 7 == pytest.approx(whole, rel=1e-5)
    assert "| output 7 |" in (tmp_path / "out" / "results.md").read_text()


def test_a_cell_of_the_committed_results_comes_out_again(tmp_path: Path) -> None:
    """Mirrored credit on the noisy perceptron, seed 0, with the rate that was chosen then."""
    committed = Path(__file__).parent.parent / "docs" / "results" / "mnist.csv"
    rows = [
        row
        for row in csv.DictReader(committed.read_text().splitlines())
        if (row["case"], row["rule"], row["phase"]) == ("noisy, 64-64", "mirrored", "comparison")
    ]
    scores = [float(row["test"]) for row in rows]
    chosen = read_suite("mnist", {"lr": float(rows[0]["lr"]), "device": "cpu"})
    (entry,) = chosen.only(["noisy, 64-64"], ["mirrored"]).entries
    cell = replace(chosen, entries=(replace(entry, tuned=True),), seeds=(0,))
    (group,) = bench(cell, tmp_path / "out")
    assert group.values("test")[0] == pytest.approx(mean(scores), abs=max(3 * stdev(scores), 3e-3))


@pytest.mark.pictures
@pytest.mark.filterwarnings("ignore:product_dtype")  # where bfloat16 is slower
def test_the_speed_of_steps_is_measured_in_its_quick_form(tmp_path: Path, capsys) -> None:
    """No times are judged here: other jobs may run beside the tests."""
    cli.main(["bench", "speed", "--quick", "--out", str(tmp_path / "out")])
    table = (tmp_path / "out" / "speed.md").read_text()
    assert table in capsys.readouterr().out
    assert table.count("\n| ") == 2 + 37 + 3 * len(networks(8, 8))
    assert (tmp_path / "out" / "growth.png").stat().st_size > 10_000
