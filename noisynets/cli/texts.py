"""Text that a trained run continues."""

from __future__ import annotations

from dataclasses import dataclass

from noisynets.cli.runs import RunArguments
from noisynets.core.errors import InputError
from noisynets.core.settings import setting
from noisynets.run.evaluate import evaluating, threads
from noisynets.run.train import open_trained
from noisynets.tasks.data.generation import LENGTH, generated


@dataclass(frozen=True, kw_only=True)
class GenerateArguments(RunArguments):
    """Arguments of `noisynets generate`."""

    prompt: str = setting("", "Text to continue. Unset: a new line.", metavar="TEXT")
    length: int = setting(
        LENGTH, "Characters to generate.", metavar="INT", at_least=1, at_most=1_000_000
    )
    temperature: float = setting(
        1.0,
        "Divides the scores before each draw: below 1, likely characters become likelier; 0 takes "
        "the most likely one.",
        at_least=0,
    )
    seed: int = setting(0, "Seed of the draws.", at_least=0)
    device: str | None = setting(None, "auto, cpu or cuda. Unset: the run's own.")


def generate(arguments: GenerateArguments) -> None:
    """Continue a prompt with a run that has learned a text, character by character."""
    a, folder = arguments, arguments.folder
    config = folder.config(a.device)
    session = open_trained(folder, a.device)
    if not session.task.vocabulary:
        raise InputError(f"{a.run}: has learned {config.task}, which is no text")
    with threads(session), evaluating(session.system):
        text = generated(
            session.system,
            a.prompt,
            vocabulary=session.task.vocabulary,
            context=config.context,
            length=a.length,
            temperature=a.temperature,
            seed=a.seed,
        )
    print(text)
