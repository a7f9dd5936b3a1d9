"""Verification: what a pass alone can show of a system, checked once on the first batch."""

from noisynets.core.verify.verification import verify

__all__ = ["verify"]
