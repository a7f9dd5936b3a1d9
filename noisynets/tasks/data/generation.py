"""Text that a trained system continues, character by character."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.noise import generator as seeded

LENGTH = 500
"""Characters of the sample in a run folder."""


@torch.no_grad()
def continued(
    system: nn.Module,
    prompt: Tensor,
    length: int,
    context: int,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """Return a prompt with further symbols, each drawn from softmax(scores/temperature).

    Args:
        system: symbols (1, t), t ≤ context, → scores of the next one at every position (1, t, V),
            in evaluation mode. Its own noise acts.
        prompt: symbols (n,), n ≥ 1, on the device of the system.
        length: number of further symbols.
        context: symbols that the system reads at once; earlier ones are forgotten.
        temperature: 0 takes the most likely symbol.
        generator: on the CPU, so that every device draws the same.

    Returns:
        Symbols (n + length,).
    """
    text = prompt.tolist()
    for _ in range(length):
        read = torch.tensor([text[-context:]], device=prompt.device)
        scores = system(read)[0, -1].double().cpu()
        if temperature == 0:
            text.append(int(scores.argmax()))
        else:
            shares = (scores / temperature).softmax(0)
            text.append(int(shares.multinomial(1, generator=generator)))
    return torch.tensor(text, device=prompt.device)


def generated(
    system: nn.Module,
    prompt: str,
    *,
    vocabulary: str,
    context: int,
    length: int = LENGTH,
    temperature: float = 1.0,
    seed: int = 0,
) -> str:
    """Return a prompt, and how a system continues it.

    Args:
        system: see `continued`.
        prompt: characters of the vocabulary; '': a new line, or the first of them where there is
            none, which is not returned.
        vocabulary: characters, by the number of their symbol.
        context: see `continued`.
        length: number of further characters.
        temperature: see `continued`.
        seed: of the draws.

    Raises:
        InputError: if a character of the prompt is not in the vocabulary.
    """
    strange = sorted(set(prompt) - set(vocabulary))
    if strange:
        raise InputError(
            f"--prompt: {', '.join(map(repr, strange))}: not among the {len(vocabulary)} "
            f"characters of the text that was learned: {vocabulary!r}"
        )
    start = "\n" if "\n" in vocabulary else vocabulary[0]
    device = next(system.parameters()).device
    numbers = torch.tensor([vocabulary.index(c) for c in prompt or start], device=device)
    drawn_by = seeded(seed, "generated text")
    made = continued(system, numbers, length, context, temperature, drawn_by)
    text = "".join(vocabulary[i] for i in made.tolist())
    return text if prompt else text[1:]


def sample(system: nn.Module, *, vocabulary: str, context: int) -> dict[str, bytes]:
    """Return the file with a sample of generated text, sample.txt, in UTF-8."""
    text = generated(system, "", vocabulary=vocabulary, context=context)
    return {"sample.txt": f"{text}\n".encode()}
