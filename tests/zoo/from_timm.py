"""timm: networks for images."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

from architecture import Architecture, images, whole
from torch import nn

from noisynets.bench.networks import no_torchvision
from noisynets.core.outer import outer

no_torchvision.install()
import timm  # noqa: E402,F401
from timm.layers import GroupNorm, GroupNormAct, StdConv2d  # noqa: E402
from timm.models.efficientnet import decode_arch_def  # noqa: E402


def _make(module: str, kind: str, **settings: Any) -> Callable[[], nn.Module]:
    """Return a function that builds timm.models.MODULE.KIND with 3 classes."""

    def build() -> nn.Module:
        made = getattr(importlib.import_module(f"timm.models.{module}"), kind)
        return made(num_classes=3, **deepcopy(settings))  # builders change them

    return build


def _net(
    name: str,
    module: str,
    kind: str,
    size: int,
    tensor: Any = whole,
    note: str = "",
    **settings: Any,
) -> Architecture:
    """An architecture for pictures of 3 × size × size."""
    return Architecture(name, _make(module, kind, **settings), images(3, size, size), tensor, note)


def _registered(*names: Any, **settings: Any) -> Architecture:
    """An architecture whose norms have the product of their parent, as a refusal advises."""
    net = _net(*names, **settings)

    def build() -> nn.Module:
        outer.register(timm.layers.LayerNorm, outer.dispatch(nn.LayerNorm))
        return net.build()

    return replace(net, build=build)


def _cfg(name: str, module: str, kind: str, cfg: str, size: int, **settings: Any) -> Architecture:
    """An architecture whose settings are an object of the class CFG of its module."""

    def build() -> nn.Module:
        found = importlib.import_module(f"timm.models.{module}")
        return getattr(found, kind)(getattr(found, cfg)(**settings), num_classes=3)

    return Architecture(name, build, images(3, size, size))


def _block(module: str, block: str, **settings: Any) -> Callable[[], nn.Module]:
    """timm's ResNet of a block of another file."""

    def build() -> nn.Module:
        kind = getattr(importlib.import_module(f"timm.models.{module}"), block)
        made = importlib.import_module("timm.models.resnet").ResNet
        return made(
            kind,
            layers=(1, 1, 1, 1),
            channels=(4, 4, 8, 8),
            stem_width=4,
            num_classes=3,
            **settings,
        )

    return build


def _mixer(block: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        mixers = importlib.import_module("timm.models.mlp_mixer")
        return mixers.MlpMixer(
            num_classes=3,
            img_size=8,
            patch_size=4,
            num_blocks=2,
            embed_dim=8,
            mlp_ratio=(0.5, 2.0) if block == "MixerBlock" else 2.0,
            block_layer=getattr(mixers, block),
            mlp_layer=mixers.GatedMlp if block == "SpatialGatingBlock" else mixers.Mlp,
        )

    return build


def _byob(name: str, kind: str, **settings: Any) -> Architecture:
    def build() -> nn.Module:
        byob = importlib.import_module("timm.models.byobnet")
        blocks = tuple(byob.ByoBlockCfg(type=kind, d=1, c=c, s=2, gs=0) for c in (8, 8))
        cfg = byob.ByoModelCfg(blocks=blocks, stem_chs=4, stem_pool="", **settings)
        return byob.ByobNet(cfg, num_classes=3, img_size=8)

    return Architecture(name, build, images(3, 8, 8))


_VIT = dict(img_size=8, patch_size=4, embed_dim=8, depth=2, num_heads=2)
_SWIN = dict(img_size=8, patch_size=2, embed_dim=4, depths=(1, 1), num_heads=(1, 2), window_size=2)
_INVERTED = [["ds_r1_k3_s1_e1_c4"], ["ir_r1_k3_s2_e2_c4_se0.25"]]


ARCHITECTURES = [
    _net("ViT", "vision_transformer", "VisionTransformer", 8, **_VIT),
    _net(
        "ViT, average pooled",
        "vision_transformer",
        "VisionTransformer",
        8,
        class_token=False,
        global_pool="avg",
        init_values=0.1,
        **_VIT,
    ),
    _net(
        "ViT, drop path and dropout",
        "vision_transformer",
        "VisionTransformer",
        8,
        drop_path_rate=0.5,
        attn_drop_rate=0.2,
        **_VIT,
    ),
    _net(
        "ViT, no positions, drop path",
        "vision_transformer",
        "VisionTransformer",
        8,
        class_token=False,
        global_pool="avg",
        pos_embed="none",
        drop_path_rate=0.9,
        **_VIT,
    ),
    _net(
        "ViT, attention pooling",
        "vision_transformer",
        "VisionTransformer",
        8,
        class_token=False,
        global_pool="map",
        pos_embed="none",
        **_VIT,
    ),
    _net("DeiT, distilled", "deit", "VisionTransformerDistilled", 8, **_VIT),
    _net("BEiT", "beit", "Beit", 8, use_rel_pos_bias=True, init_values=0.1, **_VIT),
    _net("EVA-02", "eva", "Eva", 8, swiglu_mlp=True, use_rot_pos_emb=True, **_VIT),
    _net("CaiT", "cait", "Cait", 8, depth_token_only=1, **_VIT),
    _net(
        "XCiT", "xcit", "Xcit", 8, cls_attn_layers=1, **(_VIT | {"patch_size": 8, "img_size": 16})
    ),
    _net("ConViT", "convit", "ConVit", 8, local_up_to_layer=1, **_VIT),
    _net(
        "TNT",
        "tnt",
        "TNT",
        8,
        inner_dim=4,
        num_heads_inner=2,
        num_heads_outer=2,
        first_stride=2,
        **{k: v for k, v in _VIT.items() if k != "num_heads"},
    ),
    _net(
        "PiT",
        "pit",
        "PoolingVisionTransformer",
        8,
        img_size=8,
        patch_size=4,
        stride=2,
        base_dims=(4, 4),
        depth=(1, 1),
        heads=(1, 2),
    ),
    _net(
        "CrossViT",
        "crossvit",
        "CrossVit",
        16,
        img_size=16,
        patch_size=(4, 8),
        embed_dim=(4, 8),
        depth=((1, 1, 0),),
        num_heads=(2, 2),
        mlp_ratio=(2.0, 2.0, 1.0),
    ),
    _net(
        "LeViT",
        "levit",
        "Levit",
        32,
        img_size=32,
        embed_dim=(16,),
        key_dim=4,
        depth=(1,),
        num_heads=(2,),
    ),
    _net(
        "Twins",
        "twins",
        "Twins",
        16,
        img_size=16,
        patch_size=4,
        embed_dims=(4, 8),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        depths=(1, 1),
        sr_ratios=(2, 1),
    ),
    _net(
        "PVT v2",
        "pvt_v2",
        "PyramidVisionTransformerV2",
        16,
        depths=(1, 1),
        embed_dims=(4, 8),
        num_heads=(1, 2),
        sr_ratios=(2, 1),
        mlp_ratios=(2.0, 2.0),
    ),
    _registered(
        "PVT v2, norms registered",
        "pvt_v2",
        "PyramidVisionTransformerV2",
        16,
        depths=(1, 1),
        embed_dims=(4, 8),
        num_heads=(1, 2),
        sr_ratios=(2, 1),
        mlp_ratios=(2.0, 2.0),
    ),
    _net(
        "Visformer",
        "visformer",
        "Visformer",
        16,
        img_size=16,
        patch_size=8,
        init_channels=4,
        embed_dim=8,
        depth=(1, 1, 1),
        num_heads=1,
        group=2,
    ),
    _net("Swin", "swin_transformer", "SwinTransformer", 8, **_SWIN),
    _net("Swin v2", "swin_transformer_v2", "SwinTransformerV2", 8, **_SWIN),
    _net(
        "Nest",
        "nest",
        "Nest",
        8,
        img_size=8,
        patch_size=2,
        num_levels=2,
        embed_dims=(4, 8),
        num_heads=(1, 2),
        depths=(1, 1),
        mlp_ratio=2.0,
    ),
    _net(
        "GCViT",
        "gcvit",
        "GlobalContextVit",
        16,
        img_size=16,
        window_size=(2, 2),
        embed_dim=4,
        depths=(1, 1),
        num_heads=(1, 2),
        window_ratio=(2, 2),
        mlp_ratio=2.0,
    ),
    _net(
        "DaViT",
        "davit",
        "DaVit",
        16,
        depths=(1, 1),
        embed_dims=(4, 8),
        num_heads=(1, 2),
        window_size=2,
        mlp_ratio=2,
    ),
    _net(
        "VOLO",
        "volo",
        "VOLO",
        16,
        layers=[1, 1],
        img_size=16,
        patch_size=4,
        stem_hidden_dim=4,
        embed_dims=[8, 8],
        num_heads=[2, 2],
        downsamples=(True, False),
        outlook_attention=(True, False),
        post_layers=("ca",),
        use_aux_head=False,
        use_mix_token=False,
    ),
    _net(
        "Hiera",
        "hiera",
        "Hiera",
        16,
        img_size=(16, 16),
        embed_dim=4,
        stages=(1, 1),
        q_pool=1,
        mask_unit_size=(2, 2),
        mask_unit_attn=(True, False),
        patch_kernel=(4, 4),
        patch_stride=(4, 4),
        patch_padding=(0, 0),
        mlp_ratio=2.0,
    ),
    _net(
        "TinyViT",
        "tiny_vit",
        "TinyVit",
        32,
        embed_dims=(4, 8),
        depths=(1, 1),
        num_heads=(1, 2),
        window_sizes=(2, 2),
        mlp_ratio=2.0,
        mbconv_expand_ratio=1.0,
        drop_path_rate=0.0,
    ),
    _net(
        "RepViT",
        "repvit",
        "RepVit",
        16,
        img_size=16,
        embed_dim=(8,),
        depth=(1,),
        distillation=False,
    ),
    _net(
        "FastViT",
        "fastvit",
        "FastVit",
        16,
        layers=(1, 1),
        embed_dims=(4, 8),
        mlp_ratios=(1, 1),
        token_mixers=("repmixer", "repmixer"),
        downsamples=(False, True),
        se_downsamples=(False, False),
        pos_embs=(None, None),
    ),
    _net(
        "SHViT",
        "shvit",
        "SHViT",
        32,
        embed_dim=(8, 8, 8),
        partial_dim=(4, 4, 4),
        qk_dim=(4, 4, 4),
        depth=(1, 1, 1),
    ),
    _net(
        "SwiftFormer",
        "swiftformer",
        "SwiftFormer",
        16,
        layers=[1, 1],
        embed_dims=[8, 8],
        mlp_ratios=1,
        downsamples=[False, True],
    ),
    Architecture("MLP-Mixer", _mixer("MixerBlock"), images(3, 8, 8)),
    Architecture("ResMLP", _mixer("ResBlock"), images(3, 8, 8)),
    Architecture("gMLP", _mixer("SpatialGatingBlock"), images(3, 8, 8)),
    _net(
        "Sequencer (LSTM)",
        "sequencer",
        "Sequencer2d",
        8,
        img_size=8,
        layers=(1, 1),
        patch_sizes=(4, 1),
        embed_dims=(8, 8),
        hidden_sizes=(2, 2),
        mlp_ratios=(2.0, 2.0),
    ),
    _net("ConvNeXt", "convnext", "ConvNeXt", 32, depths=(1, 1, 1, 1), dims=(4, 4, 4, 8)),
    _net(
        "ConvNeXt v2",
        "convnext",
        "ConvNeXt",
        32,
        depths=(1, 1, 1, 1),
        dims=(4, 4, 4, 8),
        use_grn=True,
        ls_init_value=None,
    ),
    _net(
        "ConvNeXt, convolutional MLP",
        "convnext",
        "ConvNeXt",
        32,
        depths=(1, 1, 1, 1),
        dims=(4, 4, 4, 8),
        conv_mlp=True,
        drop_path_rate=0.5,
    ),
    _net("ConvMixer", "convmixer", "ConvMixer", 12, dim=6, depth=2, kernel_size=3, patch_size=3),
    _net("PoolFormer", "metaformer", "MetaFormer", 16, depths=(1, 1), dims=(4, 8)),
    _net(
        "FocalNet",
        "focalnet",
        "FocalNet",
        16,
        embed_dim=4,
        depths=(1, 1),
        focal_levels=(1, 1),
        focal_windows=(3, 3),
        mlp_ratio=2.0,
    ),
    _net(
        "EdgeNeXt",
        "edgenext",
        "EdgeNeXt",
        32,
        dims=(4, 4, 4, 8),
        depths=(1, 1, 1, 1),
        global_block_counts=(0, 1, 0, 1),
        kernel_sizes=(3, 3, 3, 3),
        heads=(2, 2, 2, 2),
        d2_scales=(2, 2, 2, 2),
        use_pos_emb=(False, True, False, False),
        expand_ratio=2,
    ),
    _net(
        "InceptionNeXt",
        "inception_next",
        "MetaNeXt",
        16,
        depths=(1, 1),
        dims=(8, 16),
        mlp_ratios=(2, 2),
    ),
    _net("MambaOut", "mambaout", "MambaOut", 16, depths=(1, 1), dims=(8, 8)),
    _net("StarNet", "starnet", "StarNet", 16, base_dim=4, depths=[1, 1], mlp_ratio=2),
    _net(
        "FasterNet",
        "fasternet",
        "FasterNet",
        16,
        embed_dim=8,
        depths=(1, 1),
        feature_dim=8,
        drop_path_rate=0.0,
    ),
    _net(
        "RDNet",
        "rdnet",
        "RDNet",
        16,
        growth_rates=(8, 8),
        num_blocks_list=(1, 1),
        block_type=("Block", "BlockESE"),
        is_downsample_block=(None, True),
        num_init_features=8,
        bottleneck_width_ratio=2.0,
    ),
    Architecture("ResNet", _block("resnet", "BasicBlock"), images(3, 12, 12)),
    Architecture(
        "ResNeXt", _block("resnet", "Bottleneck", cardinality=2, base_width=32), images(3, 12, 12)
    ),
    Architecture(
        "SE-ResNet",
        _block("resnet", "BasicBlock", block_args={"attn_layer": "se"}),
        images(3, 12, 12),
    ),
    Architecture(
        "ResNet, GroupNorm",
        _block("resnet", "BasicBlock", norm_layer=partial(GroupNorm, num_groups=2)),
        images(3, 12, 12),
    ),
    Architecture(
        "ResNet, drop block",
        _block(
            "resnet", "BasicBlock", norm_layer=partial(GroupNorm, num_groups=2), drop_block_rate=0.3
        ),
        images(3, 12, 12),
    ),
    Architecture(
        "ResNeSt",
        _block("resnest", "ResNestBottleneck", block_args={"radix": 2}, base_width=32),
        images(3, 12, 12),
    ),
    _net(
        "BiT (ResNet v2)",
        "resnetv2",
        "ResNetV2",
        16,
        layers=[1, 1],
        channels=(8, 16),
        stem_chs=4,
        norm_layer=partial(GroupNormAct, num_groups=2),
        conv_layer=StdConv2d,
    ),
    _net(
        "ResNet v2, plain convolutions",
        "resnetv2",
        "ResNetV2",
        16,
        layers=[1, 1],
        channels=(8, 16),
        stem_chs=4,
        norm_layer=partial(GroupNormAct, num_groups=2),
        conv_layer=nn.Conv2d,
    ),
    _cfg(
        "NF-ResNet",
        "nfnet",
        "NormFreeNet",
        "NfCfg",
        16,
        depths=(1, 1, 1, 1),
        channels=(8, 8, 8, 8),
        stem_chs=4,
        num_features=8,
    ),
    _cfg(
        "RegNet",
        "regnet",
        "RegNet",
        "RegNetCfg",
        16,
        depth=4,
        w0=8,
        wa=10.0,
        wm=1.5,
        group_size=4,
        stem_width=4,
    ),
    _net("DenseNet", "densenet", "DenseNet", 16, growth_rate=4, block_config=(2, 2), bn_size=1),
    _net("VGG", "vgg", "VGG", 14, cfg=[2, "M", 2], mlp_ratio=0.002),
    _net(
        "GhostNet",
        "ghostnet",
        "GhostNet",
        8,
        width=0.1,
        cfgs=[[[3, 8, 8, 0, 1]], [[3, 16, 8, 0.25, 2]]],
        drop_rate=0.0,
    ),
    _net(
        "EfficientNet",
        "efficientnet",
        "EfficientNet",
        12,
        block_args=decode_arch_def(_INVERTED),
        num_features=16,
        stem_size=4,
    ),
    _net(
        "MobileNet v3",
        "mobilenetv3",
        "MobileNetV3",
        12,
        block_args=decode_arch_def(_INVERTED),
        num_features=16,
        stem_size=4,
    ),
    _byob("RepVGG", "rep"),
    _byob("MobileOne", "one"),
    _byob("BoTNet", "self_attn", self_attn_layer="bottleneck", fixed_input_size=True),
]
