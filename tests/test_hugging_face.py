"""The example with Hugging Face's GPT-2, where its packages are installed (extra `zoo`)."""

import inspect
import math

import pytest

pytest.importorskip("transformers")
pytest.importorskip("peft")

import hugging_face

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def test_a_gpt2_on_chips_is_tuned_by_its_adapters() -> None:
    """A few steps: the losses are those of a model that has learnt a little."""
    losses = hugging_face.main(steps=30, tuning=30)
    assert all(math.isfinite(loss) for loss in losses)
    software, chips, tuned = losses
    assert chips < math.log(72), "no better than chance"
    assert tuned < chips


def test_it_takes_less_than_40_lines() -> None:
    parts = (hugging_face.on_chip, hugging_face.main)
    lines = [line for part in parts for line in inspect.getsource(part).splitlines()]
    assert len([line for line in lines if line.strip()]) < 40
