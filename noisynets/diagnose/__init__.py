"""Diagnosis of a run: quality of its gradient estimates, causes of poor ones, and advice.

`measure` makes the measurements, `advise` derives advice from them, and `table`, `draw` and
`as_json` present both. `settled` implements `--sigma auto`. May import every package but `bench`
and `cli`; matplotlib is imported by the functions that draw.
"""

from noisynets.diagnose.advice import Finding, advise, summary
from noisynets.diagnose.bias import Bias, bias
from noisynets.diagnose.bias_picture import bias_as_json, bias_table, draw_bias
from noisynets.diagnose.ladder import best, ladder, settled
from noisynets.diagnose.measure import measure, warmed
from noisynets.diagnose.measures import Measures, NodeMeasures
from noisynets.diagnose.picture import draw
from noisynets.diagnose.table import as_json, table, title

__all__ = [
    "Bias",
    "Finding",
    "Measures",
    "NodeMeasures",
    "advise",
    "as_json",
    "best",
    "bias",
    "bias_as_json",
    "bias_table",
    "draw",
    "draw_bias",
    "ladder",
    "measure",
    "settled",
    "summary",
    "table",
    "title",
    "warmed",
]
