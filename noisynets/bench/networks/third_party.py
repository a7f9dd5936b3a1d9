"""Networks of other packages, unmodified and with random weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from noisynets.bench.networks import no_torchvision
from noisynets.bench.networks.network import (
    CLASSES,
    SYMBOLS,
    Gaussian,
    Network,
    Text,
    per_position,
)
from noisynets.bench.networks.residual import SMALL_NOISE
from noisynets.core.extras import extra


def _timm(name: str, **settings: Any) -> nn.Module:
    no_torchvision.install()
    with extra("zoo", f"timm's {name}"):
        import timm

    network: nn.Module = timm.create_model(name, num_classes=CLASSES, **settings)
    return network


def resnet18(zero_init_last: bool = True) -> nn.Module:
    """Return timm's ResNet-18, in training mode; the last gains of its branches start at 0."""
    return _timm("resnet18", zero_init_last=zero_init_last)


def vit() -> nn.Module:
    """Return timm's vit_tiny with two blocks and patches of 8×8."""
    return _timm("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2)


def gpt2() -> nn.Module:
    """Return Hugging Face's GPT-2 with two blocks of width 32, with its tied head and dropout."""
    with extra("zoo", "Hugging Face's GPT-2"):
        import transformers

    config = transformers.GPT2Config(
        vocab_size=SYMBOLS,
        n_layer=2,
        n_embd=32,
        n_head=2,
        n_positions=32,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.GPT2LMHeadModel(config)


def peft_lora() -> nn.Module:
    """Return the same network, frozen, with peft's adapters of rank 4 in its attention."""
    with extra("zoo", "peft's LoRA"):
        import peft

    config = peft.LoraConfig(
        r=4, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False
    )
    return peft.get_peft_model(gpt2(), config)


def of_logits(outputs: Any, targets: Tensor) -> Tensor:
    """Mean cross-entropy of a row's positions, (R,), of the logits in a model's output."""
    return per_position(outputs.logits, targets)


PHOTOS = Gaussian(16, (3, 32, 32), scale=0.5)
MORE_PHOTOS = Gaussian(64, (3, 32, 32), scale=0.5)  # the deepest layers see one pixel of each
LINES = Text(16, 16)

THIRD_PARTY = (
    Network("timm-resnet18", resnet18, MORE_PHOTOS, sigma=SMALL_NOISE, note="in training mode"),
    Network(
        "timm-resnet18-gain-1",
        partial(resnet18, zero_init_last=False),
        MORE_PHOTOS,
        sigma=SMALL_NOISE,
        note="in training mode, zero_init_last=False",
    ),
    Network("timm-vit-tiny", vit, PHOTOS),
    Network("transformers-gpt2", gpt2, LINES, of_logits, note="with its dropout and tied head"),
    Network("peft-lora-gpt2", peft_lora, LINES, of_logits, note="with dropout in the frozen part"),
)
