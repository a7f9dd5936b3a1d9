"""The report of a run: a page with its settings, results, curves, layers and behaviour."""

from noisynets.diagnose.report.page import run_page

__all__ = ["run_page"]
