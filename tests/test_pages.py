"""Errors and warnings name a page that helps, and every page that they name exists."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from noisynets import NodePerturbation, check, cli, cross_entropy
from noisynets.core.errors import BoxFailed, Diverged, InputError, NoisynetsError, SystemRefused
from noisynets.core.notes import PAGES, Note
from noisynets.core.pages import DOCS, Page

ROOT = Path(__file__).parent.parent


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ +(.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", Page)
def test_every_page_and_anchor_exists(page: Page) -> None:
    path, _, anchor = page.partition("#")
    assert (ROOT / DOCS / path).is_file()
    assert not anchor or anchor in anchors(ROOT / DOCS / path)


@pytest.mark.parametrize("page", Page)
def test_every_page_is_named_by_an_error_or_a_warning(page: Page) -> None:
    files = [f for f in (ROOT / "noisynets").rglob("*.py") if f.name != "pages.py"]
    assert any(f"Page.{page.name}" in file.read_text() for file in files)


@pytest.mark.parametrize("kind", [SystemRefused, BoxFailed, Diverged])
def test_errors_of_these_kinds_always_name_a_page(kind: type[NoisynetsError]) -> None:
    line = str(kind("what is wrong"))
    assert line == f"what is wrong (see {DOCS}{kind.page})"
    assert str(kind(line)) == line  # named once, also where an error contains another
    other = kind("what is wrong", page=Page.DATA)
    assert (
        str(pickle.loads(pickle.dumps(other)))
        == str(other)
        == f"what is wrong (see {DOCS}how-to/data.md)"
    )


def test_other_errors_name_none() -> None:
    assert str(InputError("--epochs 0: must be positive")) == "--epochs 0: must be positive"


def test_a_refusal_names_the_page_in_python_and_stays_one_line() -> None:
    with pytest.raises(
        SystemRefused, match=r"unfused.*\(see docs/how-to/rules.md#what-is-refused\)$"
    ) as error:
        check(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)))
    assert "\n" not in str(error.value)


def test_the_command_line_names_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    for words, page in (
        (["train", "--rule", "amp"], Page.WHICH_RULE),
        (["train", "minst"], Page.DATA),
        (["train", "--system", "nosy-mlp"], Page.SYSTEMS),
        (["resume", "no-such-folder"], Page.RUNS),
        (["bench", "no-such-suite"], Page.BENCHMARKS),
        (["train", "--epochs", "-1"], Page.SYSTEMS),
        (["train", "--update", "sgd"], Page.PULSES),
        (["train", "yinyang", "--standardise", "--encoder", "rate"], Page.SYSTEMS),
        (["train", "yinyang", "--augment", "flip"], Page.DATA),
        (["train", "--system", "mlp", "--noise-during", "training"], Page.DEVICES),
        (["train", "--system", "lif", "--encoder", "frames"], Page.NEURONS),
        (["train", "text", "--system", "mlp"], Page.SYSTEMS),
        (["train", "--system", "mlp", "--rule", "aware"], Page.WHICH_RULE),
        (["train", "--system", "process-box", "--rule", "bp"], Page.BOXES),
        (["train", "--final-fit", "--keep", "best"], Page.CHECKPOINTS),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        line = capsys.readouterr().err
        assert end.value.code == 2
        assert line.endswith(f"(see {DOCS}{page})\n") and line.count("\n") == 1, line


def test_warnings_name_the_page() -> None:
    estimator = NodePerturbation(nn.Linear(3, 2), lambda o, y: cross_entropy(o, y).round())
    with pytest.warns(UserWarning, match=r"\(see docs/how-to/warnings.md\)$"):
        estimator(10 * torch.randn(8, 3), torch.zeros(8, dtype=torch.int64))
    assert [note.page for note in estimator.notes] == [Page.WARNINGS]
    assert "see docs" not in next(iter(estimator.notes)).message


def test_kinds_with_a_page_of_their_own_are_kinds_of_the_table() -> None:
    table = (ROOT / DOCS / Page.WARNINGS).read_text()
    for kind, page in PAGES.items():
        assert f"| `{kind}` |" in table
        assert str(Note(kind, "found")) == f"found (see {DOCS}{page})"
