"""Feedback: credit that is sent down from the output's error, taught by pairs of passes."""

from noisynets.feedback.corrected import Corrected
from noisynets.feedback.credit import FEEDBACKS, Feedback, Mapped, Traced, learns
from noisynets.feedback.eligibility import InTime
from noisynets.feedback.error import MeasuredError
from noisynets.feedback.pair import Pair
from noisynets.feedback.watch import Watch
from noisynets.feedback.wiring import Wiring

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
