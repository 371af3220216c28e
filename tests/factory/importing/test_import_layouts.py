"""Every layout that is read, made from golden weights: the model gives the golden outputs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import zoo
from zoo.cli import main
from zoo.errors import WeightsFileError, WeightsMismatchError
from zoo.factory.importing.prefixes import some, strip_prefix
from zoo.files.manifest import check_files, read_manifest

from .checkpoints import golden_errors, golden_state, save_legacy

State = dict[str, torch.Tensor]
TRAINING_ARGUMENTS = argparse.Namespace(model="fcvit_tiny", lr=1e-3, drop_path=0.1)


def _facebook(state: State) -> Any:
    return {"model": state}


def _hdvw(state: State) -> Any:
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    return {"name": "a model", "state_dict": state, "optimizer": optimizer}


def _training(state: State) -> Any:
    average = {key: torch.zeros_like(value) for key, value in state.items()}
    rest = {"epoch": 299, "arch": "fcvit_tiny", "args": TRAINING_ARGUMENTS, "metric": 74.9}
    return {**rest, "state_dict": state, "state_dict_ema": average}


def _averaged(state: State) -> Any:
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    return {"epoch": 1, "state_dict": zeros, "state_dict_ema": state, "args": TRAINING_ARGUMENTS}


def _detector(state: State) -> Any:
    backbone = {f"backbone.{key}": value for key, value in state.items()}
    other = {"neck.lateral_convs.0.conv.weight": torch.ones(2), "bbox_head.bias": torch.ones(1)}
    meta = {"CLASSES": ("person", "car"), "mmdet_version": "2.19.0"}
    return {"meta": meta, "state_dict": {**backbone, **other}, "optimizer": {"state": {}}}


def _parallel(state: State) -> Any:
    return _hdvw({f"module.{key}": value for key, value in state.items()})


def _swin(state: State) -> Any:
    """What timm 0.5.4 kept in the state dict besides the weights."""
    mask = {"layers.0.blocks.1.attn_mask": torch.zeros(64, 16, 16)}
    name = "layers.0.blocks.0.attn.relative_position_index"
    return _hdvw({**state, **mask, name: torch.zeros(16, 16, dtype=torch.int64)})


def _plain(state: State) -> Any:
    return state


TAGGED, GUESSED = True, False
LAYOUTS: dict[str, tuple[str, str, Callable[[State], Any], Callable[[Any, Path], None], Any]] = {
    "facebookresearch .pth": (
        "convit.tiny_224", "convit_tiny.fb_in1k", _facebook, torch.save, {}
    ),
    "timm .safetensors": (
        "convit.tiny_224", "convit_tiny.fb_in1k", _plain, safetensors.torch.save_file, {}
    ),
    "facebookresearch, before PyTorch 1.6": (
        "convit.tiny_patch8_64", "convit_tiny", _plain, save_legacy,
        {"patch_size": 8, "depth": 6, "local_up_to_layer": 4, "img_size": 64},
    ),
    "another image size": ("convit.tiny_160", "convit_tiny", _facebook, torch.save, {}),
    "without classifier": ("convit.tiny_headless_112", "convit_tiny", _plain, torch.save, {}),
    "how-do-vits-work .pth.tar": ("hdvw.resnet_50", "resnet_50", _hdvw, torch.save, {}),
    "how-do-vits-work by its own name": (
        "hdvw.resnet_18", "hdvw:resnet_18", _hdvw, save_legacy, {}
    ),
    "several GPUs": ("hdvw.alternet_18_224", "alternet_18", _parallel, torch.save, {}),
    "settings of its own": (
        "hdvw.convit_ti_32_k5", "conv_attention_vit_tiny", _hdvw, torch.save,
        {"img_size": 32, "patch_size": 4, "depth": 6, "kernel_size": 5},
    ),
    "ViT of timm 0.5": (
        "hdvw_timm.vit_ti_cifar100", "timm:vit_tiny_patch16_224", _hdvw, torch.save, {}
    ),
    "PiT of timm 0.5": (
        "hdvw_timm.pit_ti_cifar100", "timm:pit_ti_224.hdvw_cifar100", _hdvw, save_legacy, {}
    ),
    "Swin of timm 0.5": (
        "hdvw_timm.swin_ti_cifar100", "timm:swin_tiny_patch4_window7_224.hdvw_cifar100",
        _swin, torch.save, {},
    ),
    "FCViT's training script": ("fcvit.tiny_224", "fcvit_tiny.in1k", _training, torch.save, {}),
    "FCViT fine-tuned": ("fcvit.tiny_rect", "fcvit_tiny", _training, save_legacy, {}),
    "averaged weights": ("fcvit.tiny_rect", "fcvit_tiny", _averaged, torch.save, {"ema": True}),
    "FCViT in a detector": ("fcvit.b12_feat", "fcvit_b12", _detector, torch.save, {}),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_imported_checkpoint_gives_the_golden_outputs(layout: str, tmp_path: Path) -> None:
    case, model, wrap, save, options = LAYOUTS[layout]
    save(wrap(golden_state(case)), tmp_path / "file")
    result = zoo.import_checkpoint(tmp_path / "file", model, tmp_path / "out", **options)
    assert max(golden_errors(case, result.directory)) <= 1e-10
    check_files(result.directory, read_manifest(result.directory))
    published = result.provenance["published_as"]  # of other weights nobody states a licence
    assert result.provenance["licence"]["weights"] == ("Apache-2.0" if published else "")
    cfg = zoo.create_model(result.directory, pretrained=True).pretrained_cfg
    assert cfg.licence == result.provenance["licence"]["weights"]


@pytest.fixture(scope="module")
def training_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training") / "model_best.pth.tar"
    torch.save(_training(golden_state("fcvit.tiny_rect")), path)
    return path


def test_what_was_left_behind_is_written_down(training_file: Path, tmp_path: Path) -> None:
    result = zoo.import_checkpoint(training_file, "fcvit_tiny", tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "provenance.json").read_text("utf-8"))
    assert facts == result.provenance
    assert facts["source"]["file"] == "model_best.pth.tar"
    assert facts["source"]["sha256"] == zoo.files.local.sha256_file(training_file)
    assert facts["dropped_keys"] == ["epoch", "arch", "args", "metric", "state_dict_ema"]
    assert facts["dropped_globals"] == ["argparse.Namespace"]
    assert facts["remap"]["state_dict_at"] == ["state_dict"]
    assert "shared folders without a licence" in facts["licence"]["note"]
    assert facts["published_as"] is None, "ten classes are not the published weights"
    assert str(tmp_path) not in json.dumps(facts), "no absolute path"


def test_a_detectors_other_tensors_are_listed(tmp_path: Path) -> None:
    state = zoo.create_model("fcvit_nano", features_only=True).state_dict()
    torch.save(_detector(state), tmp_path / "file")
    facts = zoo.import_checkpoint(tmp_path / "file", "fcvit_nano", tmp_path / "out").provenance
    assert facts["model_args"] == {"features_only": True}
    assert facts["remap"]["prefix_removed"] == "backbone."
    assert facts["dropped_keys"] == [
        "meta", "optimizer", "neck.lateral_convs.0.conv.weight", "bbox_head.bias"
    ]  # fmt: skip


def test_a_backbone_without_its_first_norm_is_found(tmp_path: Path) -> None:
    state = zoo.create_model("fcvit_nano", features_only=True).state_dict()
    torch.save(_detector({k: v for k, v in state.items() if "norm0." not in k}), tmp_path / "file")
    facts = zoo.import_checkpoint(tmp_path / "file", "fcvit_nano", tmp_path / "out").provenance
    assert facts["model_args"] == {"features_only": True, "first_feature_norm": False}


def test_without_averaged_weights_ema_is_refused(tmp_path: Path) -> None:
    torch.save(_hdvw(golden_state("hdvw.convit_ti_32_d2")), tmp_path / "file")
    with pytest.raises(WeightsFileError, match="has no averaged weights") as caught:
        zoo.import_checkpoint(
            tmp_path / "file", "conv_attention_vit_tiny", tmp_path / "out", ema=True
        )
    assert caught.value.code == "no_ema"


def test_a_tag_says_which_published_weights_these_are(tmp_path: Path) -> None:
    torch.save(_facebook(golden_state("convit.tiny_224")), tmp_path / "file")
    named = zoo.import_checkpoint(tmp_path / "file", "convit_tiny.fb_in1k", tmp_path / "named")
    guessed = zoo.import_checkpoint(tmp_path / "file", "convit_tiny", tmp_path / "guessed")
    assert (named.name, guessed.name) == ("convit_tiny.fb_in1k", "convit_tiny.imported")
    for result in (named, guessed):
        published = result.provenance["published_as"]
        assert published["name"] == "convit_tiny.fb_in1k"
        assert published["address"].startswith("https://dl.fbaipublicfiles.com/convit/")
        assert published["verified"] is False
        assert "CC-BY-NC" in result.provenance["licence"]["note"]
    model = zoo.create_model(str(tmp_path / "named"), pretrained=True)
    assert model.pretrained_cfg.labels[0] == "tench"
    assert model.pretrained_cfg.licence == "Apache-2.0"


def test_published_cifar_weights_bring_their_own_preprocessing(tmp_path: Path) -> None:
    torch.save(_hdvw(golden_state("hdvw_timm.pit_ti_cifar100")), tmp_path / "file")
    zoo.import_checkpoint(tmp_path / "file", "timm:pit_ti_224", tmp_path / "out")
    cfg = zoo.create_model(str(tmp_path / "out"), pretrained=True).pretrained_cfg
    assert (cfg.input.size, cfg.input.mean[0], cfg.input.crop_pct) == ((32, 32), 0.5071, 1.0)
    assert cfg.licence == "Apache-2.0"


def test_importing_leaves_the_random_generator_alone(tmp_path: Path) -> None:
    torch.save(zoo.create_model("convit_nano").state_dict(), tmp_path / "file")
    torch.manual_seed(0)
    zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out")
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    state = zoo.create_model("convit_nano").to(dtype).state_dict()
    torch.save(state, tmp_path / "file")
    facts = zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out").provenance
    assert facts["dtypes"] == [str(dtype).removeprefix("torch.")]
    model = zoo.create_model(str(tmp_path / "out"), pretrained=True)
    assert torch.equal(model.norm.weight, state["norm.weight"].float())


@pytest.mark.parametrize(
    ("prefix", "beside"),
    [
        ("model.", ()),  # Lightning
        ("net.", ()),
        ("_forward_module.model.", ()),
        ("module.", ("n_averaged",)),  # torch.optim.swa_utils.AveragedModel
        ("module._orig_mod.", ()),
        ("model.", ("loss.weight",)),  # a loss with weights beside the model
        ("student.encoder_q.", ("queue",)),  # any other that makes all names fit
    ],
)
def test_a_wrappers_prefix_is_taken_off_and_told(
    prefix: str, beside: tuple[str, ...], tmp_path: Path
) -> None:
    state = zoo.create_model("convit_nano").state_dict()
    wrapped = {f"{prefix}{key}": value for key, value in state.items()}
    wrapped |= {key: torch.ones(3) for key in beside}
    torch.save({"state_dict": wrapped}, tmp_path / "file")
    facts = zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out").provenance
    assert facts["remap"]["prefix_removed"] == prefix
    assert [key for key in facts["dropped_keys"] if key in beside] == list(beside)
    loaded = zoo.create_model(str(tmp_path / "out"), pretrained=True).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_a_prefix_is_named_in_place_of_all_names(tmp_path: Path) -> None:
    state = zoo.create_model("convit_nano").state_dict()
    del state["norm.bias"]
    torch.save({f"student.{key}": value for key, value in state.items()}, tmp_path / "file")
    with pytest.raises(WeightsMismatchError, match=r"all names begin with 'student\.'") as caught:
        zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out")
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_file_with_the_model_twice_names_both_prefixes(tmp_path: Path) -> None:
    state = zoo.create_model("convit_nano").state_dict()
    both = {f"{part}.{key}": value for key, value in state.items() for part in ("one", "two")}
    torch.save(both, tmp_path / "file")
    with pytest.raises(WeightsMismatchError, match=r"2 times, under 'one\.' or 'two\.'"):
        zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out")


def test_a_prefix_is_taken_off_where_all_names_have_it_or_the_model_has_what_follows() -> None:
    def stripped(names: str, known: str = "") -> tuple[list[str], str, list[str]]:
        inside, prefix, outside = strip_prefix(dict.fromkeys(names.split()), known.split())
        return list(inside), prefix, outside

    assert stripped("module.a module.b") == (["a", "b"], "module.", [])
    assert stripped("module.a loss.b") == (["module.a", "loss.b"], "", [])
    assert stripped("module.a loss.b", "a c") == (["a"], "module.", ["loss.b"])
    assert stripped("module.a loss.b", "c d") == (["module.a", "loss.b"], "", [])
    assert stripped("module.a a", "a") == (["module.a", "a"], "", [])


def test_prefixes_are_named_by_their_first_forty_letters() -> None:
    assert some(["x" * 40, "y" * 41]) == f"{'x' * 40!r} or {'y' * 40!r}"
    assert some(["a.", "b.", "c.", "d."]) == "'a.' or 'b.' and 2 more"


def test_the_command_says_which_prefix_it_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = zoo.create_model("convit_nano").state_dict()
    torch.save({f"vit.{key}": value for key, value in state.items()}, tmp_path / "file")
    with pytest.raises(SystemExit) as caught:
        main(["import", str(tmp_path / "file"), "--model", "convit_nano", "--out", f"{tmp_path}/o"])
    assert not caught.value.code
    assert "prefix removed from all names: vit." in capsys.readouterr().out
