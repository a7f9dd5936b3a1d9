"""Diagnosis: what the nodes, the rule and the settings of a run do, and which knob to turn.

`measure` looks, `advise` judges what was seen; `table`, `draw` and `as_json` show it. `settled`
is `--sigma auto`.
"""

from noisynets.diagnose.advice import Finding, advise, summary
from noisynets.diagnose.ladder import best, ladder, settled
from noisynets.diagnose.measure import measure, warmed
from noisynets.diagnose.measures import Measures, NodeMeasures
from noisynets.diagnose.picture import draw
from noisynets.diagnose.table import as_json, table

__all__ = [
    "Finding",
    "Measures",
    "NodeMeasures",
    "advise",
    "as_json",
    "best",
    "draw",
    "ladder",
    "measure",
    "settled",
    "summary",
    "table",
    "warmed",
]
