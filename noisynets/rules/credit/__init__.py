"""Feedback: credit that is sent down from the output's error, taught by pairs of passes."""

from noisynets.core.graph import Wiring
from noisynets.core.tracer import Watch
from noisynets.rules.credit.corrected import Corrected
from noisynets.rules.credit.credit import FEEDBACKS, Feedback, Mapped, Traced, learns
from noisynets.rules.credit.eligibility import InTime
from noisynets.rules.credit.error import MeasuredError
from noisynets.rules.credit.pair import Pair

__all__ = [
    "FEEDBACKS",
    "Corrected",
    "Feedback",
    "InTime",
    "Mapped",
    "MeasuredError",
    "Pair",
    "Traced",
    "Watch",
    "Wiring",
    "learns",
]
