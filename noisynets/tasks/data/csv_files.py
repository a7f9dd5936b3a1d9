"""Tables of numbers in CSV files, with a column of targets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisynets.core.errors import InputError
from noisynets.core.reading import memory, read_text, unreadable

TARGET = "target"
DELIMITERS = ",;\t"
WHOLE_NUMBER = re.compile(r"[+-]?\d+")
ADVICE = "give a CSV file with a row per example, numbers, and the target in the last column"


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file.

    Attributes:
        path: of the file.
        names: of the columns; 'column 1' and so on, if the file has no header.
        rows: the texts of the cells.
        lines: of the file, at which the rows end.
        named: the file has a header.
    """

    path: Path
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    named: bool

    @property
    def target(self) -> int:
        """The column named 'target', or the last one."""
        lower = [name.lower() for name in self.names]
        return lower.index(TARGET) if self.named and TARGET in lower else len(lower) - 1


def read_table(path: Path) -> Table:
    """Read a CSV file; its first line is a header, if a cell before the last is no number.

    Raises:
        InputError: if it cannot be read, is empty, or has rows of different lengths.
    """
    text = read_text(path, limit=memory() // 16, advice=ADVICE)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        numbered = [([c.strip() for c in row], reader.line_num) for row in reader if any(row)]
    except csv.Error as error:
        raise unreadable(path, error, ADVICE) from error
    if not numbered:
        raise InputError(f"{path}: is empty: {ADVICE}")
    width = len(numbered[0][0])
    if width < 2:
        raise InputError(f"{path}: has one column alone: {ADVICE}")
    for row, line in numbered:
        if len(row) != width:
            raise InputError(
                f"{path}: line {line} has {len(row)} cells, the first one has {width}: correct it"
            )
    head = numbered[0][0]
    named = any(not _is_number(cell) for cell in head[:-1])
    rest = numbered[1:] if named else numbered
    if not rest:
        raise InputError(f"{path}: has a header and no row: {ADVICE}")
    names = tuple(head) if named else tuple(f"column {i}" for i in range(1, width + 1))
    return Table(path, names, [row for row, _ in rest], [line for _, line in rest], named)


def numbers(table: Table, columns: Sequence[int]) -> NDArray[np.float64]:
    """Return columns as numbers (n, columns).

    Raises:
        InputError: if a cell is empty, no number, or not finite.
    """
    found = np.empty((len(table.rows), len(columns)))
    for i, row in enumerate(table.rows):
        for j, column in enumerate(columns):
            cell = row[column]
            if not _is_number(cell) or not np.isfinite(float(cell)):
                what = f"{cell!r} is no finite number" if cell else "the cell is empty"
                raise InputError(
                    f"{table.path}: line {table.lines[i]}, {table.names[column]}: {what}: correct "
                    "it, encode texts as numbers, or leave the column out"
                )
            found[i, j] = float(cell)
    return found


def targets(table: Table) -> NDArray[np.generic]:
    """Return the targets: whole numbers, numbers, or texts, (n,).

    Raises:
        InputError: if a cell is empty or a number is not finite.
    """
    column = table.target
    cells = [row[column] for row in table.rows]
    if all(WHOLE_NUMBER.fullmatch(cell) and len(cell) < 16 for cell in cells):
        return np.array([int(cell) for cell in cells])
    if all(_is_number(cell) for cell in cells):
        return numbers(table, [column])[:, 0]
    if "" in cells:
        line = table.lines[cells.index("")]
        raise InputError(f"{table.path}: line {line} has no target ({table.names[column]}): add it")
    return np.array(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
