"""Verification: what a pass alone can show of a system, checked once on the first batch."""

from noisynets.core.verify.rows import rowless
from noisynets.core.verify.verification import Verified, verify

__all__ = ["Verified", "rowless", "verify"]
