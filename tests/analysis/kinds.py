"""Kinds of the units of other libraries' models, as their papers describe the architectures.

A attention, C convolution, M mlp, O other. Depths and the order of layers are from the papers
named; "O" is what none of the three words fits: pooling (PoolFormer), an LSTM (Sequencer), and
linear layers that only change the width or the resolution (Swin's patch merging).
"""

from __future__ import annotations

WORDS = {"A": "attention", "C": "convolution", "M": "mlp", "O": "other"}


def _stages(block: str, depths: tuple[int, ...], between: str = "C") -> str:
    """The way in, then stages of blocks, with a change of resolution between them."""
    return "C" + between.join(block * depth for depth in depths)


_VIT = "C" + 12 * "AM"  # Dosovitskiy et al. 2021: patch embedding, 12 x (attention, MLP)
_SWIN = _stages("AM", (2, 2, 6, 2), between="O")  # Liu et al. 2021
_CONVNEXT = _stages("C", (3, 3, 9, 3))  # Liu et al. 2022
_BOTTLENECK = "C" + sum((3, 4, 6, 3)) * "C"  # He et al. 2016: ResNet-50
_POOLFORMER = _stages("OM", (2, 2, 6, 2))  # Yu et al. 2022: pooling instead of attention

TIMM = {
    # transformers of one resolution
    "vit_tiny_patch16_224": _VIT,
    "deit_tiny_patch16_224": _VIT,
    "deit_tiny_distilled_patch16_224": _VIT,
    "deit3_small_patch16_224": _VIT,
    "beit_base_patch16_224": _VIT,
    "eva02_tiny_patch14_224": _VIT,
    "vit_relpos_small_patch16_224": _VIT,
    "vit_small_patch16_dinov3": _VIT,
    "vit_tiny_r_s16_p8_224": _VIT,
    "samvit_base_patch16_224": _VIT,
    "convit_tiny": _VIT,  # d'Ascoli et al. 2021: gated positional, then plain attention
    "cait_xxs24_224": "C" + 24 * "AM",  # Touvron et al. 2021: class attention has no map
    "xcit_nano_12_p16_224": "C" + 12 * "ACM" + 2 * "AM",  # El-Nouby et al. 2021: XCA, LPI, FFN
    "volo_d1_224": "C" + 4 * "AM" + "C" + 14 * "AM" + 2 * "AM",  # Yuan et al. 2021
    "crossvit_9_240": "CC" + 3 * (1 + 3) * "AM",  # Chen et al. 2021: two branches
    "tnt_s_patch16_224": 12 * "AM",  # Han et al. 2021: the inner stream has no map
    # pyramids
    "pit_ti_224": _stages("AM", (2, 6, 4)),  # Heo et al. 2021
    "pit_ti_distilled_224": _stages("AM", (2, 6, 4)),
    "swin_tiny_patch4_window7_224": _SWIN,
    "swinv2_tiny_window8_256": _SWIN,
    "swinv2_cr_tiny_224": _SWIN,
    "pvt_v2_b0": _stages("AM", (2, 2, 2, 2)),  # Wang et al. 2022
    "twins_pcpvt_small": "".join("CAMC" + n * "AM" for n in (2, 3, 5, 2)),
    "twins_svt_small": 2 * "CAMCAM" + "CAMC" + 9 * "AM" + "CAMC" + 3 * "AM",  # Chu et al. 2021
    "mvitv2_tiny": "C" + 10 * "AM",  # Li et al. 2022
    "hiera_tiny_224": "C" + 12 * "AM",  # Ryali et al. 2023
    "davit_tiny": _stages("CACM" * 2, (1, 1, 3, 1)),  # Ding et al. 2022: spatial, channel groups
    "coat_lite_tiny": 4 * ("C" + 2 * "CAM"),  # Xu et al. 2021
    "nest_tiny": "CAAA",  # Zhang et al. 2022: tokens lie in blocks, hence one unit for a level
    "visformer_tiny": "C" + "C" + 7 * "C" + "C" + 4 * "AM" + "C" + 4 * "AM",  # Chen et al. 2021
    # attention among convolutions
    "coatnet_0_rw_224": "C" + 5 * "C" + 7 * "AM" + 2 * "AM",  # Dai et al. 2021
    "maxvit_tiny_tf_224": "C" + 11 * "CAMAM",  # Tu et al. 2022: MBConv, block, grid
    "halonet26t": "C" + 5 * "C" + 3 * "A",  # Vaswani et al. 2021
    "botnet26t_256": "C" + 5 * "C" + 3 * "A",  # Srinivas et al. 2021
    "lambda_resnet26t": "C" + 5 * "C" + 3 * "A",  # Bello 2021
    "mobilevit_xxs": "C" + 5 * "C" + "ACACAO",  # Mehta & Rastegari 2022
    "mobilevitv2_050": "C" + 4 * "C" + "ACACA",  # 2022: separable self-attention
    "edgenext_xx_small": "C" + "CC" + "CCA" + "C" + 5 * "C" + "A" + "C" + "CA",  # Maaz et al. 2022
    "efficientformer_l1": _stages("OM", (3, 2, 6, 3)) + "AM",  # Li et al. 2022
    "swiftformer_xs": "".join("C" + n * "C" + "CAM" for n in (2, 2, 5, 3)),
    "levit_128s": "C" + 2 * "AM" + "A" + 3 * "AM" + "A" + 4 * "AM",  # Graham et al. 2021
    "tiny_vit_5m_224": "C" + 2 * "C" + "C" + 2 * "AM" + "C" + 6 * "AM" + "C" + 2 * "AM",
    "caformer_s18": "C" + 3 * "CM" + "C" + 3 * "CM" + "C" + 9 * "AM" + "C" + 3 * "AM",
    # no attention
    "poolformer_s12": _POOLFORMER,
    "poolformerv2_s12": _POOLFORMER,
    "convformer_s18": _stages("CM", (3, 3, 9, 3)),  # Yu et al. 2024
    "focalnet_tiny_srf": _stages("CM", (2, 2, 6, 2)),  # Yang et al. 2022
    "mixer_s16_224": "C" + 8 * "M",  # Tolstikhin et al. 2021
    "resmlp_12_224": "C" + 12 * "M",  # Touvron et al. 2021
    "gmlp_ti16_224": "C" + 30 * "M",  # Liu et al. 2021
    "gmixer_12_224": "C" + 12 * "M",
    "convnext_atto": _stages("C", (2, 2, 6, 2)),
    "convnextv2_atto": _stages("C", (2, 2, 6, 2)),
    "inception_next_atto": _stages("C", (2, 2, 6, 2)),
    "mambaout_femto": _stages("C", (3, 3, 9, 3)),  # Yu & Wang 2024: gated convolutions
    "convmixer_768_32": "C" + 32 * "C",  # Trockman & Kolter 2022
    "repvit_m1": "C" + 2 * "CM" + "CM" + 2 * "CM" + "CM" + 14 * "CM" + "CM" + 2 * "CM",
    "resnet18": "C" + 8 * "C",
    "resnet50": _BOTTLENECK,
    "seresnet50": _BOTTLENECK,
    "resnetv2_50": _BOTTLENECK,
    "skresnet18": "C" + 8 * "C",  # Li et al. 2019: selects kernels, not positions
    "resnest14d": "C" + 4 * "C",
    "gcresnext26ts": "C" + 8 * "C",  # Cao et al. 2019: one context for all positions
    "res2net50_14w_8s": _BOTTLENECK,
    "nfnet_f0": "C" + 12 * "C",
    "regnetx_002": "C" + 13 * "C",
    "efficientnet_b0": "C" + 16 * "C",  # Tan & Le 2019
    "mobilenetv2_035": "C" + 17 * "C",  # Sandler et al. 2018
    "mobilenetv3_small_050": "C" + 11 * "C" + "O",
    "densenet121": "C" + "COCOCOC",  # Huang et al. 2017: dense blocks, transitions
    "vgg11": 8 * "C",  # Simonyan & Zisserman 2015
    "inception_v3": "CCCOC" + 11 * "C",  # Szegedy et al. 2016
    "legacy_xception": "CC" + 12 * "C" + "CC",  # Chollet 2017
}

TORCHVISION = {
    "alexnet": 5 * "C",
    "convnext_tiny": _CONVNEXT,
    "densenet121": "C" + "COCOCOC",
    "efficientnet_b0": "C" + 16 * "C" + "O",
    "efficientnet_v2_s": "C" + 40 * "C" + "O",
    "googlenet": "COC" + 9 * "C",
    "inception_v3": "CCCOC" + 11 * "C",
    "maxvit_t": "C" + 11 * "CAMAM",
    "mnasnet0_5": "CC" + 16 * "C",
    "mobilenet_v2": "C" + 17 * "C" + "O",
    "mobilenet_v3_small": "C" + 11 * "C" + "O",
    "regnet_x_400mf": "C" + 22 * "C",
    "resnet18": "C" + 8 * "C",
    "resnext50_32x4d": _BOTTLENECK,
    "wide_resnet50_2": _BOTTLENECK,
    "shufflenet_v2_x0_5": "C" + 16 * "C" + "O",
    "squeezenet1_1": "C" + 8 * "C",
    "swin_t": _SWIN,
    "swin_v2_t": _SWIN,
    "vgg11": 8 * "C",
    "vit_b_16": _VIT,
}

_SMALL = {
    "image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 3,
    "num_attention_heads": 4,
}  # fmt: skip
_WINDOWS = {
    "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4],
    "window_size": 4,
}  # fmt: skip
TRANSFORMERS: dict[str, tuple[dict[str, object], str]] = {
    "ViT": (_SMALL, "C" + 3 * "AM"),
    "DeiT": (_SMALL, "C" + 3 * "AM"),
    "Beit": (_SMALL, "C" + 3 * "AM"),
    "Dinov2": (_SMALL, "C" + 3 * "AM"),
    "Swin": (_WINDOWS, _stages("AM", (1, 2), between="O")),
    "Swinv2": (_WINDOWS, _stages("AM", (1, 2), between="O")),
    "ResNet": ({"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}, "C" + 3 * "C"),
    "PoolFormer": ({}, _POOLFORMER),
    "Segformer": ({}, _stages("AM", (2, 2, 2, 2))),
}
