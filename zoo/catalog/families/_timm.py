"""Published checkpoints of models that timm builds: how-do-vits-work's, made with timm 0.5.4."""

from __future__ import annotations

from ._hdvw import cifar100_checkpoint

CHECKPOINTS = (
    cifar100_checkpoint(
        "timm:vit_tiny_patch16_224",
        "vit_ti_cifar100_9857b21357.pth.tar",
        overrides={"img_size": 32, "patch_size": 2, "qkv_bias": False},
    ),
    cifar100_checkpoint(
        "timm:pit_ti_224",
        "pit_ti_cifar100_0645889efb.pth.tar",
        layout="timm-0.5-pit",
        overrides={"img_size": 32, "patch_size": 2, "stride": 1},
    ),
    cifar100_checkpoint(
        "timm:swin_tiny_patch4_window7_224",
        "swin_ti_cifar100_ec2894492b.pth.tar",
        layout="timm-0.5-swin",
        overrides={"img_size": 32, "patch_size": 1, "window_size": 4, "qkv_bias": False},
    ),
)
