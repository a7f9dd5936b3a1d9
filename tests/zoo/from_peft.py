"""peft: adapters on tiny models of transformers; the base is frozen, as peft leaves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import transformers
from architecture import Architecture, tokens
from from_transformers import DECODER, ENCODER, GPT, VOCABULARY, hidden, logits, pooled
from torch import nn

BERT = ("BertModel", "BertConfig", ENCODER, pooled)
GPT2 = ("GPT2Model", "GPT2Config", GPT, hidden)
PHI = ("PhiModel", "PhiConfig", DECODER, hidden)


def _build(base: Any, config: str, settings: dict[str, Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        kind, settings_of, sizes, _ = base
        words = {"vocab_size": VOCABULARY, "pad_token_id": 0} if "vocab" not in sizes else {}
        model = getattr(transformers, kind)(getattr(transformers, settings_of)(**words, **sizes))
        return peft.get_peft_model(model, getattr(peft, config)(**settings))

    return build


def _adapter(name: str, config: str, base: Any = BERT, **settings: Any) -> Architecture:
    """An adapter on a base model; BERT's queries and values if nothing else is said."""
    targets = {"BertModel": ["query", "value"], "GPT2Model": ["c_attn"]}
    settings = {"target_modules": targets.get(base[0], ["q_proj", "v_proj"])} | settings
    settings = {k: v for k, v in settings.items() if v != "leave out"}
    return Architecture(name, _build(base, config, settings), tokens(4, VOCABULARY), base[3])


def _classifier() -> Architecture:
    """LoRA, and a new head that is trained as a whole."""

    def build() -> nn.Module:
        config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=3, **ENCODER)
        model = transformers.BertForSequenceClassification(config)
        return peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=2))

    return Architecture("LoRA, BERT classifier", build, tokens(4, VOCABULARY), logits)


_OUT = "leave out"

ARCHITECTURES = [
    _adapter("LoRA, BERT", "LoraConfig", r=2),
    _adapter("LoRA with dropout, BERT", "LoraConfig", r=2, lora_dropout=0.3),
    _adapter("LoRA, GPT-2", "LoraConfig", GPT2, r=2, fan_in_fan_out=True),
    _adapter("LoRA, Phi", "LoraConfig", PHI, r=2),
    _adapter("LoRA with biases, BERT", "LoraConfig", r=2, bias="lora_only"),
    _adapter("LoRA of embeddings, BERT", "LoraConfig", r=2, target_modules=["word_embeddings"]),
    _classifier(),
    _adapter("DoRA, BERT", "LoraConfig", r=2, use_dora=True),
    _adapter("AdaLoRA, BERT", "AdaLoraConfig", init_r=2, target_r=1, total_step=10),
    _adapter("LoHa, BERT", "LoHaConfig", r=2),
    _adapter("LoKr, BERT", "LoKrConfig", r=2),
    _adapter("OFT, BERT", "OFTConfig", r=0, oft_block_size=4),
    _adapter("BOFT, BERT", "BOFTConfig", boft_block_size=4),
    _adapter("HRA, BERT", "HRAConfig", r=2),
    _adapter("IA3, BERT", "IA3Config", feedforward_modules=[]),
    _adapter("VeRA, BERT", "VeraConfig", r=2),
    _adapter("RandLoRA, BERT", "RandLoraConfig", r=2),
    _adapter("MiSS, BERT", "MissConfig", r=2),
    _adapter("SHiRA, BERT", "ShiraConfig", r=1),
    _adapter("C3A, BERT", "C3AConfig", block_size=4),
    _adapter("Layer norms alone, BERT", "LNTuningConfig", target_modules=["LayerNorm"]),
    _adapter(
        "Prompt tuning, BERT",
        "PromptTuningConfig",
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=2,
        target_modules=_OUT,
    ),
    _adapter(
        "Prefix tuning, GPT-2",
        "PrefixTuningConfig",
        GPT2,
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=2,
        target_modules=_OUT,
    ),
    _adapter(
        "P-tuning, BERT",
        "PromptEncoderConfig",
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=2,
        encoder_hidden_size=8,
        target_modules=_OUT,
    ),
]
