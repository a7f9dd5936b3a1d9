"""transformers: from tiny configurations, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from architecture import Architecture, With, images, tokens
from torch import Tensor, nn

transformers.logging.set_verbosity_error()

VOCABULARY = 12
LENGTH = 4
CUT = ("Reformer", "Rwkv")
"""Families through which autograd does not go in evaluation mode."""


def logits(output: Any) -> Tensor:
    return output.logits


def hidden(output: Any) -> Tensor:
    return output.last_hidden_state


def pooled(output: Any) -> Tensor:
    return output.pooler_output


def _make(
    family: str, head: str, config: str, settings: dict[str, Any], call: Any
) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        made = getattr(transformers, f"{family}{head}")
        module = made(getattr(transformers, config or f"{family}Config")(**settings))
        return module if call is None else With(module, call)

    return build


def _text(
    family: str,
    head: str = "ForSequenceClassification",
    tensor: Callable[[Any], Tensor] = logits,
    config: str = "",
    call: Any = None,
    name: str = "",
    **settings: Any,
) -> Architecture:
    """A model of sequences of tokens, (B, 4)."""
    settings = {"vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0} | settings
    build = _make(family, head, config, settings, call)
    drawn = images(LENGTH, 8) if call is _embedded else tokens(LENGTH, VOCABULARY)
    name = name or f"{family}{head}"
    return Architecture(name, build, drawn, tensor, differences=family in CUT)


def _picture(
    family: str,
    size: int = 8,
    head: str = "ForImageClassification",
    tensor: Callable[[Any], Tensor] = logits,
    config: str = "",
    call: Any = None,
    **settings: Any,
) -> Architecture:
    """A model of pictures, 3 × size × size."""
    build = _make(family, head, config, {"num_labels": 3} | settings, call)
    return Architecture(f"{family}{head}", build, images(3, size, size), tensor)


def _by_name(name: str) -> Callable[[nn.Module, Tensor], Any]:
    """Return a call that gives the inputs under their name."""
    return lambda module, inputs: module(**{name: inputs})


def _embedded(module: nn.Module, inputs: Tensor) -> Any:
    return module(inputs_embeds=inputs)


ENCODER = dict(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=16,
)
DECODER = ENCODER | dict(num_key_value_heads=1, bos_token_id=1, eos_token_id=2)
GPT = dict(n_embd=8, n_layer=2, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=2)
VIT = dict(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    image_size=8,
    patch_size=4,
)
T5 = dict(d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2, decoder_start_token_id=0)
STAGES = dict(depths=[1, 1], num_heads=[1, 2])


def _series() -> Architecture:
    """PatchTST: 6 values of 2 series."""
    settings = dict(
        num_input_channels=2,
        context_length=6,
        patch_length=2,
        patch_stride=2,
        d_model=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=12,
        prediction_length=3,
        loss="mse",
    )
    build = _make("PatchTST", "ForPrediction", "", settings, None)
    return Architecture(
        "PatchTSTForPrediction", build, images(6, 2), lambda output: output.prediction_outputs
    )


def _mixed_series() -> Architecture:
    settings = dict(
        num_input_channels=2,
        context_length=6,
        patch_length=2,
        patch_stride=2,
        d_model=6,
        num_layers=2,
        prediction_length=3,
    )
    build = _make("PatchTSMixer", "ForPrediction", "", settings, None)
    return Architecture(
        "PatchTSMixerForPrediction", build, images(6, 2), lambda output: output.prediction_outputs
    )


def _speech(family: str, **settings: Any) -> Architecture:
    """A model of sound, 60 samples."""
    settings = (
        dict(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=12,
            conv_dim=(4, 4),
            conv_kernel=(4, 3),
            conv_stride=(4, 2),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            apply_spec_augment=False,
            classifier_proj_size=4,
            num_labels=3,
        )
        | settings
    )
    build = _make(family, "ForSequenceClassification", "", settings, None)
    return Architecture(f"{family}ForSequenceClassification", build, images(60), logits)


ARCHITECTURES = [
    _text("Bert", **ENCODER),
    _text("Bert", "Model", pooled, name="BertModel of embeddings", call=_embedded, **ENCODER),
    _text("Bert", "ForMaskedLM", **ENCODER),
    _text("Roberta", **ENCODER),
    _text("Electra", embedding_size=8, **ENCODER),
    _text("Albert", embedding_size=4, **ENCODER),
    _text("DistilBert", dim=8, n_layers=2, n_heads=2, hidden_dim=12, max_position_embeddings=16),
    _text(
        "MobileBert",
        embedding_size=4,
        intra_bottleneck_size=4,
        num_feedforward_networks=1,
        **(ENCODER | {"num_hidden_layers": 1}),
    ),
    _text("SqueezeBert", embedding_size=8, **ENCODER),
    _text("ConvBert", embedding_size=8, head_ratio=1, conv_kernel_size=3, **ENCODER),
    _text(
        "DebertaV2",
        relative_attention=True,
        position_buckets=2,
        pos_att_type=["p2c", "c2p"],
        **(ENCODER | {"num_hidden_layers": 1}),
    ),
    _text("FNet", **{k: v for k, v in ENCODER.items() if k != "num_attention_heads"}),
    _text("Nystromformer", num_landmarks=2, segment_means_seq_len=4, **ENCODER),
    _text("RoFormer", embedding_size=8, **ENCODER),
    _text("MPNet", **ENCODER),
    _text("ModernBert", **ENCODER, global_attn_every_n_layers=2, local_attention=4),
    _text("XLNet", "Model", hidden, d_model=8, n_layer=1, n_head=2, d_inner=12),
    _text(
        "Funnel",
        "BaseModel",
        hidden,
        block_sizes=[1, 1],
        d_model=8,
        n_head=2,
        d_head=4,
        d_inner=12,
        num_decoder_layers=1,
    ),
    _text(
        "Reformer",
        "Model",
        hidden,
        attn_layers=["local"],
        hidden_size=8,
        feed_forward_size=12,
        num_attention_heads=2,
        attention_head_size=4,
        axial_pos_embds=False,
        local_attn_chunk_length=4,
        is_decoder=False,
        max_position_embeddings=16,
    ),
    _text("GPT2", "LMHeadModel", **GPT),
    _text("GPT2", "Model", hidden, name="GPT2Model of embeddings", call=_embedded, **GPT),
    _text(
        "GPTNeo",
        "ForCausalLM",
        hidden_size=8,
        num_layers=2,
        num_heads=2,
        intermediate_size=12,
        attention_types=[[["global", "local"], 1]],
        window_size=2,
        max_position_embeddings=16,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _text("GPTNeoX", "ForCausalLM", **ENCODER, bos_token_id=1, eos_token_id=2),
    _text("GPTJ", "ForCausalLM", rotary_dim=2, **GPT),
    _text(
        "OPT",
        "ForCausalLM",
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=12,
        max_position_embeddings=16,
        word_embed_proj_dim=8,
    ),
    _text("Bloom", "ForCausalLM", hidden_size=8, n_layer=2, n_head=2),
    _text("CodeGen", "ForCausalLM", rotary_dim=2, **(GPT | {"n_head": 4})),
    _text("Llama", "ForCausalLM", **DECODER),
    _text("Llama", "Model", hidden, name="LlamaModel of embeddings", call=_embedded, **DECODER),
    _text("Mistral", "ForCausalLM", sliding_window=2, head_dim=4, **DECODER),
    _text("Qwen2", "ForCausalLM", **DECODER),
    _text("Qwen3", "ForCausalLM", head_dim=4, **DECODER),
    _text("Gemma", "ForCausalLM", head_dim=4, **DECODER),
    _text("Phi", "ForCausalLM", **DECODER),
    _text("StableLm", "ForCausalLM", **DECODER),
    _text("Olmo", "ForCausalLM", **DECODER),
    _text(
        "Falcon",
        "ForCausalLM",
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _text("Mpt", "ForCausalLM", d_model=8, n_heads=2, n_layers=2, max_seq_len=16),
    _text(
        "Mixtral",
        "ForCausalLM",
        num_local_experts=2,
        num_experts_per_tok=1,
        experts_implementation="eager",
        **DECODER,
    ),
    _text(
        "Mamba",
        "ForCausalLM",
        hidden_size=4,
        state_size=2,
        num_hidden_layers=1,
        expand=2,
        conv_kernel=2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _text(
        "Rwkv",
        "ForCausalLM",
        hidden_size=4,
        attention_hidden_size=4,
        num_hidden_layers=2,
        intermediate_size=8,
        context_length=16,
    ),
    _text("T5", "EncoderModel", hidden, **T5),
    _text(
        "Bart",
        "Model",
        hidden,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=12,
        max_position_embeddings=16,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        pad_token_id=0,
    ),
    _picture("ViT", **VIT),
    _picture("DeiT", **VIT),
    _picture("Dinov2", **(VIT | {"mlp_ratio": 2})),
    _picture("Beit", **VIT, out_indices=[1, 2]),
    _picture("Siglip", **VIT, config="SiglipVisionConfig", head="VisionModel", tensor=pooled),
    _picture("CLIP", **VIT, config="CLIPVisionConfig", head="VisionModel", tensor=pooled),
    _picture("ViTMSN", **VIT),
    _picture(
        "Swin", image_size=8, patch_size=2, embed_dim=4, window_size=2, mlp_ratio=2.0, **STAGES
    ),
    _picture(
        "Pvt",
        16,
        image_size=16,
        hidden_sizes=[4, 8],
        num_attention_heads=[1, 2],
        depths=[1, 1],
        sequence_reduction_ratios=[2, 1],
        mlp_ratios=[2, 2],
        num_encoder_blocks=2,
        patch_sizes=[4, 2],
        strides=[4, 2],
    ),
    _picture(
        "Segformer",
        16,
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[4, 8],
        patch_sizes=[3, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
    ),
    _picture("ConvNext", 16, num_stages=2, hidden_sizes=[4, 8], depths=[1, 1]),
    _picture("ConvNextV2", 16, num_stages=2, hidden_sizes=[4, 8], depths=[1, 1]),
    _picture(
        "ResNet", 12, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic"
    ),
    _picture("RegNet", 12, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], groups_width=4),
    _picture(
        "PoolFormer",
        16,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        num_encoder_blocks=2,
        patch_sizes=[7, 3],
        strides=[4, 2],
        padding=[2, 1],
        mlp_ratio=2.0,
    ),
    _picture(
        "FocalNet",
        8,
        image_size=8,
        patch_size=2,
        embed_dim=4,
        depths=[1, 1],
        hidden_sizes=[4, 8],
        focal_levels=[1, 1],
        focal_windows=[3, 3],
        mlp_ratio=2.0,
    ),
    _series(),
    _mixed_series(),
    _speech("Wav2Vec2"),
    _speech("Hubert"),
    _speech("WavLM", num_buckets=4, max_bucket_distance=4),
]
