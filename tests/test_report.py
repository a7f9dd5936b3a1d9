"""`noisynets report`: what is on the pages of runs and benchmarks, and how a browser shows them."""

import csv
import json
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
from test_page import EVIL, Found
from tiny import run

from noisynets.bench.results import COLUMNS
from noisynets.cli import main
from noisynets.cli.parser import parsed
from noisynets.core.errors import InputError
from noisynets.core.values import made, options
from noisynets.diagnose.report import run_page
from noisynets.diagnose.report.layers import diagnosis
from noisynets.run.folder import RunFolder
from noisynets.run.page import Plot, Section, Table, rendered
from noisynets.run.rerun import command
from noisynets.run.settings import Config, resolve

pytest.importorskip("plotly")

MEASURED = {
    **{"steps": 9, "loss": 0.5, "advice": "lower --lr", "notes": ["units are dead"]},
    "trials": [{"lr": 0.1, "first": 2.0, "last": 1.0}, {"lr": 0.3, "first": 2.0, "last": None}],
    "nodes": [
        {"name": "0", "snr": 3e12, "cosine": 0.5, "share": 0.2, "slope": None, "sigma": 0.1}
        | {"relative_sigma": 0.1, "learnt": None, "ridge": None, "dead": 0.25}
    ],
}


def section(page, title: str) -> Section:
    (found,) = [s for s in page.sections if s.title == title]
    return found


def cells(part: Section) -> list[str]:
    return [str(c) for b in part.blocks if isinstance(b, Table) for row in b.rows for c in row]


@pytest.mark.parametrize(
    "given",
    [
        Config(),
        Config(task="yinyang", lr=0.0012345678901, hidden=(5, 6), seed=3, epochs=2),
        Config(task="randman", system="lif", rule="anp", steps=50, sigma=0.3, verify=False),
        Config(task="text", system="gpt", layers=1, heads=2, physical=None, optimiser="adamw"),
        Config(task="cartpole", system="mlp-policy", random_numbers="independent"),
        Config(system="analog-mlp", device_preset="pcm", device_seed=2, rule="kolen-pollack"),
        Config(system="process-box", box="python 'my box.py' --fast"),
        Config(data_dir="/no/such place", test=False, final_fit=True),
    ],
)
def test_the_command_gives_the_same_settings(given: Config) -> None:
    config = resolve(given)
    program, name, *words = shlex.split(command(config))
    assert (program, name) == ("noisynets", "train")
    assert resolve(made(Config, parsed(options(Config), words))) == config


def test_a_page_shows_results_settings_and_the_command(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", epochs=2)
    page = run_page(folder)
    summary = folder.summary()
    shown = cells(section(page, "Results"))
    for part in ("test", "val", "train"):
        assert f"{100 * summary[f'{part}_accuracy']:.2f} %" in shown
    assert f"{folder.metrics('accuracy')[-1]['val_loss']:.4g}" in shown
    assert command(folder.config()) in rendered(page).replace("</span><span>", "")
    known = cells(section(page, "Settings"))
    assert "--batch-size" in known and "20" in known
    plots = [b for b in section(page, "Training").blocks if isinstance(b, Plot)]
    lines = {line["name"]: line for line in plots[0].figure["data"]}
    rows = folder.metrics("accuracy")
    assert lines["training"]["y"] == [row["train_loss"] for row in rows]
    assert lines["validation"]["y"] == [row["val_loss"] for row in rows]
    rates = plots[2].figure["data"][0]["y"]
    assert rates[0] == folder.config().lr and rates[-1] == pytest.approx(0)


def test_classes_are_those_of_the_validation_set(tmp_path: Path) -> None:
    part = section(run_page(run(tmp_path / "run", epochs=1)), "Classes")
    kinds = [type(block).__name__ for block in part.blocks]
    assert kinds == ["Plot", "Table", "Gallery", "Gallery"]
    assert all("validation" in block.caption for block in (part.blocks[0], part.blocks[2]))
    counted = sum(int(row[1]) for row in part.blocks[1].rows)
    assert f"of {counted} validation examples" in part.blocks[0].caption


def test_a_spiking_run_shows_its_spikes(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", system="lif", steps=3, epochs=1, batch_size=50)
    *rasters, table = section(run_page(folder), "Spikes").blocks
    rates = folder.summary()["spikes_per_step"]
    assert [row[0] for row in table.rows] == list(rates)
    assert [row[2] for row in table.rows] == [f"{rate:.4f}" for rate in rates.values()]
    assert len(rasters) == len(rates)


def test_an_unfinished_and_a_diverged_run_say_so(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", epochs=1)
    summary = folder.summary()
    (folder.path / "summary.json").unlink()
    assert "not finished (1 of 1 epochs)" in rendered(run_page(folder))
    folder.write_summary(summary | {"diverged": True})
    assert "has diverged" in rendered(run_page(folder))
    folder.checkpoint.unlink()
    assert "no checkpoint" in rendered(run_page(folder))


def test_texts_from_the_folder_are_escaped(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", epochs=1)
    honest = Found(rendered(run_page(folder)))
    (folder.path / "sample.txt").write_text(EVIL)
    values = json.loads((folder.path / "config.json").read_text()) | {"data_dir": f"/{EVIL}"}
    folder.write("config.json", values)
    summary = folder.summary()
    folder.write_summary(summary | {"notes": [EVIL], "pictures": ["curves.png", "sample.txt"]})
    node = MEASURED["nodes"][0] | {"name": EVIL}
    folder.write("diagnose.json", MEASURED | {"advice": EVIL, "notes": [EVIL], "nodes": [node]})
    html = rendered(run_page(folder))
    found = Found(html)
    assert html.count("&lt;script&gt;window.stolen") >= 6
    own = [a for tag, a in found.tags if tag == "script" and "type" not in a]
    assert len(own) == 2 and found.count("h1") == 1
    assert [a["src"][:15] for tag, a in found.tags if tag == "img"] == ["data:image/png;"] * (
        honest.count("img")
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"nodes": [{"name": "0"}]},
        {"nodes": 3},
        {"advice": None},
        {"steps": "many"},
        {"trials": [{"lr": True, "last": 1}]},
        {"notes": [1]},
    ],
)
def test_a_damaged_diagnosis_is_refused_in_a_line(damage, tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "run", epochs=1)
    folder.write("diagnose.json", MEASURED | damage)
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(folder.path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert "diagnose.json: is no diagnosis of this version" in line
    assert not (folder.path / "report.html").exists()


def test_a_diagnosis_is_read_as_it_was_written() -> None:
    found = diagnosis(MEASURED)
    assert found.names == ("0",) and found.measures[0]["dead"] == 0.25
    assert found.trials == ((0.1, 1.0), (0.3, None))


def test_diagnose_on_request(tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "run", epochs=1)
    main(["report", str(folder.path), "--diagnose", "--out", str(tmp_path / "a.html")])
    assert capsys.readouterr().out.endswith("a.html\n")
    layers = section(run_page(folder), "Layers")
    assert [row[0] for b in layers.blocks if isinstance(b, Table) for row in b.rows] == ["1", "3"]


def bench_folder(path: Path, case: str = "a case") -> Path:
    """A benchmark of two rules, two seeds and one candidate each."""
    rows = []
    for rule in ("anp", "bp"):
        for phase, seed in (("search", 0), ("comparison", 0), ("comparison", 1)):
            name = f"{rule}-{seed}-{phase}"
            where = path / "runs" / "".join(c if c.isalnum() else "-" for c in case).strip("-")
            folder = run(where / name, rule=rule, seed=seed, epochs=2)
            summary, settings = folder.summary(), folder.config()
            scores = {part: summary[f"{part}_accuracy"] for part in ("val", "test", "train")}
            costs = {key: summary[key] for key in ("sample_forwards", "seconds")}
            where_from = {"case": case, "rule": rule, "phase": phase, "seed": seed, "epochs": 2}
            rest = {"lr": settings.lr, "sigma": settings.injected, "decor_lr": 0.0}
            rest |= {"diverged": False, "score": "accuracy", "folder": name}
            rows.append(where_from | rest | scores | costs)
    with open(path / "results.csv", "w") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (path / "results.md").write_text(f"About {EVIL}.\n\n    noisynets bench x\n\nTwo cores.\n\n| a")
    return path


def test_a_benchmark_shows_results_curves_candidates_and_runs(tmp_path: Path) -> None:
    path = bench_folder(tmp_path, EVIL)
    main(["report", str(path)])
    html = (path / "report.html").read_text()
    found = Found(html)
    assert [a for tag, a in found.tags if tag == "script" and "type" not in a] == [{}, {}]
    folders = [RunFolder(p.parent) for p in sorted(path.glob("runs/*/bp*comparison/config.json"))]
    scores = [100 * f.summary()["test_accuracy"] for f in folders]
    assert f"{sum(scores) / 2:.2f} ± {abs(scores[0] - scores[1]) / 2**0.5:.2f}" in html
    data = [json.loads(t) for t in found.texts if t.startswith('{"data"')]
    assert len(data) == 3
    lines = {line["name"]: line for line in data[0]["data"] if "name" in line}
    rows = [f.metrics("accuracy") for f in folders]
    means = [50 * (a["val_accuracy"] + b["val_accuracy"]) for a, b in zip(*rows, strict=True)]
    assert lines["bp"]["y"] == pytest.approx(means)
    links = [a["href"] for tag, a in found.tags if tag == "a" and a["href"].startswith("./")]
    assert len(links) == 6
    assert all((path / unquote(link)).is_file() for link in links)
    assert "noisynets bench x" in found.texts and "Two cores." in found.texts


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("folder", "../../elsewhere"),
        ("folder", ".."),
        ("lr", "fast"),
        ("lr", "-1"),
        ("seed", "x"),
        ("phase", "later"),
        ("val", "inf"),
    ],
)
def test_damaged_results_are_refused_in_a_line(column, value, tmp_path: Path, capsys) -> None:
    row = dict.fromkeys(COLUMNS, "") | {"case": "a", "rule": "bp", "phase": "search", "seed": "0"}
    row |= {"lr": "0.1", "score": "accuracy", "folder": "x", "diverged": "False"}
    with open(tmp_path / "results.csv", "w") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(row | {column: value})
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert "results.csv: cannot be read" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no folder of a run"),
        (["."], "no folder of a run (config.json is missing) or of a benchmark"),
        (["run", "--out", "a.pdf"], "must be an .html"),
        (["run", "--out", "nowhere/a.html"], "in a folder that is there"),
        (["bench", "--diagnose"], "only of a run"),
    ],
)
def test_report_refuses_in_a_line(words, message, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("run/config.json", "bench/results.csv"):
        Path(file).parent.mkdir()
        Path(file).touch()
    with pytest.raises(SystemExit, match="2"):
        main(["report", *words])
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_code_of_others_is_not_run(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", epochs=1)
    values = json.loads((folder.path / "config.json").read_text()) | {"box": "rm -r /"}
    folder.write("config.json", values)
    with pytest.raises(InputError, match="which this command line does not name"):
        run_page(RunFolder(folder.path))
