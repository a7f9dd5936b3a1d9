"""Runs: settings, training, evaluation, and the run folder with its checkpoint and reports.

May import `core`, `rules`, `systems`, `tasks` and `estimators`.
"""
