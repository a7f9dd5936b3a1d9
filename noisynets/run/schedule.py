"""Schedules of rates over a run, and what becomes of them when a run gets more epochs."""

from __future__ import annotations

from noisynets.run.settings import SCHEDULES, Config


def share_of_rate(config: Config, done: float) -> float:
    """Return the factor on the learning rate after a fraction `done` of the run.

    >>> warm = Config(lr_warm_up=0.1)
    >>> [round(share_of_rate(warm, done), 6) for done in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    warm = config.lr_warm_up
    if done < warm:
        return done / warm
    return SCHEDULES[config.schedule]((done - warm) / (1 - warm))


def extension(config: Config, recorded: int, done: int) -> dict[str, str]:
    """Return the note on a run whose number of epochs was changed, if its learning rate jumps.

    Args:
        config: resolved settings, with the new number of epochs.
        recorded: epochs of the schedule up to now.
        done: finished epochs.

    >>> extension(Config(epochs=40), recorded=20, done=20)["extended"]
    'the cosine schedule of 20 epochs was followed up to epoch 20, that of 40 from there on: ...'
    >>> extension(Config(epochs=40, schedule="constant"), recorded=20, done=20)
    {}
    """
    before, after = (min(1.0, done / epochs) for epochs in (recorded, config.epochs))
    factors = share_of_rate(config, before), share_of_rate(config, after)
    if not done or factors[0] == factors[1]:
        return {}
    return {
        "extended": f"the {config.schedule} schedule of {recorded} epochs was followed up to epoch "
        f"{done}, that of {config.epochs} from there on: the learning rate goes on at "
        f"{factors[1]:.2g} of --lr, from {factors[0]:.2g}; a run of {config.epochs} epochs from "
        "the start has another result"
    }
