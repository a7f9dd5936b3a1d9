"""Estimators: from a system, a loss and a rule to gradients in `.grad` that any optimiser can use.

May import `core`, `rules`, `systems` and `tasks`.
"""
