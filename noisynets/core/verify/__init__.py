"""Verification: what a pass alone can show of a system, checked once on the first batch."""

from noisynets.core.verify.passes import RowsMissing
from noisynets.core.verify.rows import rowless
from noisynets.core.verify.verification import verify

__all__ = ["RowsMissing", "rowless", "verify"]
