"""Verification: what a pass alone can show of a system, checked once on the first batch."""

from noisynets.core.verify.passes import RowsMissing
from noisynets.core.verify.verification import rowless, verify

__all__ = ["RowsMissing", "rowless", "verify"]
