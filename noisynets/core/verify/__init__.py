"""Verification of a system on its first batch."""
