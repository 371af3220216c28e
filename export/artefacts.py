"""The files of an export: their names, how each is written, and how it is judged.

Names follow transformers.js (`dtypes.js`): no suffix for float32, `_fp16`, `_int8` for its dtype
"int8" and `_quantized` for "q8", its default in the browser. Static int8 has the first of these
two names, dynamic int8 the second, as transformers.js' own conversion script writes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import PretrainedCfg
from zoo.errors import ConfigError, ExportError, ParityError

from .axes import axes_of
from .comparison.measuring import References, check_file
from .description import metadata_of, package_versions
from .forms import EXTRAS, Form, attention_form, embedding_form, feature_form, own_form
from .graph.checks import check_size
from .graph.program import capture
from .onnx_export import save_onnx, translate, weights_size, write_onnx
from .parity import ParityReport, ParityRow
from .spec import ExportSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn
    from torch.export import ExportedProgram

FORMATS = {"onnx": "onnx/model.onnx", "torchscript": "model.pt", "pt2": "model.pt2"}
PRECISIONS = {
    "float32": "onnx/model.onnx",
    "float16": "onnx/model_fp16.onnx",
    "int8": "onnx/model_quantized.onnx",
    "int8-static": "onnx/model_int8.onnx",
}
_KINDS = {".onnx": "onnx", ".pt": "torchscript", ".pt2": "pt2"}
EXTRA_FILES = {extra: f"onnx/model_{extra}.onnx" for extra in EXTRAS}


def precision_of(file: str) -> str:
    """float32, float16 or int8: the gate for a file of an export directory."""
    found = {name: precision for precision, name in PRECISIONS.items()}.get(file, "float32")
    return found.removesuffix("-static")


def check_names(what: str, given: Any, known: Any) -> None:
    """Raises: ConfigError for a name that does not exist."""
    unknown = [name for name in given if name not in known]
    if unknown or isinstance(given, str):
        raise ConfigError(f"{what} are {', '.join(known)}; got {given!r}")


def check_exportable(cfg: PretrainedCfg, spec: ExportSpec, formats: Any) -> None:
    """Raises: ExportError with the record's reason for what an architecture cannot do."""
    import zoo

    if not cfg.architecture or cfg.architecture.startswith("timm:"):
        return
    reasons = zoo.get_record(cfg.architecture).family.not_exportable
    wanted = [*formats, *(["dynamic-size"] if spec.dynamic_size else [])]
    for name in wanted:
        if name in reasons:
            raise ExportError(
                f"{cfg.architecture} has no {name} export: {reasons[name]}", code="not_exportable"
            )


class ArtefactWriter:
    """Writes files of one model into a folder and collects how far each is from float64.

    Args:
        model: never changed.
        cfg: what the files say of themselves.
        folder: where; "onnx" is created in it.
        calibration: folder of images for static int8; None takes what ships with the package.
        allow_drift: keep an int8 file that loses too much accuracy.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: PretrainedCfg,
        spec: ExportSpec,
        folder: Path,
        calibration: Path | None = None,
        allow_drift: bool = False,
    ) -> None:
        self.model = model
        self.cfg = cfg
        self.spec = spec
        self.folder = folder
        self.calibration = calibration
        self.allow_drift = allow_drift
        self.axes = axes_of(model, cfg.input, spec)
        self.form = own_form(model)
        self.references = References(self.form, cfg, spec, self.axes)
        self.rows: list[ParityRow] = []
        self.attestation: dict[str, Any] = {}
        self._program: ExportedProgram | None = None
        self._proto: onnx.ModelProto | None = None

    def write(
        self, formats: Iterable[str], precisions: Iterable[str], extras: Iterable[str]
    ) -> None:
        """Several files, each once."""
        for name in dict.fromkeys(formats):
            self.write_format(name)
        for name in dict.fromkeys(precisions):
            if PRECISIONS[name] != FORMATS["onnx"]:
                self.write_precision(name)
        for name in dict.fromkeys(extras):
            self.write_extra(name)

    def report(self) -> ParityReport:
        """All that was measured."""
        failed = any(not row.passed for row in self.rows)
        return ParityReport(
            self.cfg.name, self.cfg.version, self.cfg.sha256, tuple(self.rows), self.attestation,
            package_versions(), self.allow_drift and failed,
        )  # fmt: skip

    def write_format(self, name: str) -> None:
        """One of `FORMATS`, in float32."""
        path = self._path(FORMATS[name])
        if name == "onnx":
            metadata = metadata_of(self.cfg, self.spec, self.axes, self.form.outputs)
            save_onnx(self._float32(), path, metadata, self.spec.opset, self.cfg.name)
        elif name == "pt2":
            from .pt2_export import write_pt2

            outputs = self.form.outputs
            write_pt2(self._captured(), path, self.cfg, self.spec, self.axes, outputs)
        else:
            from .torchscript_export import write_torchscript

            write_torchscript(self.model, path, self.cfg, self.spec, self.axes, self.form.outputs)
        self._judge(FORMATS[name], self.references)

    def write_precision(self, name: str) -> None:
        """One of `PRECISIONS` other than float32, made from the float32 graph."""
        from .graph.float16 import to_float16
        from .graph.quantization import to_int8

        if name == "float16":
            proto, notes = to_float16(self._float32(), self.references)
        else:
            static = name.endswith("static")
            proto, notes = to_int8(self._float32(), self.cfg, static, self.calibration)
        file = PRECISIONS[name]
        metadata = metadata_of(self.cfg, self.spec, self.axes, self.form.outputs, name)
        save_onnx(proto, self._path(file), metadata, self.spec.opset, self.cfg.name)
        accurate = True
        if precision_of(file) == "int8":
            notes["accuracy"] = self._accuracy(file)
            loss = notes["accuracy"]["top1_loss_points"]
            accurate = loss is None or loss <= self.spec.int8_top1_loss
        self._judge(file, self.references, notes, accurate)

    def write_extra(self, name: str) -> None:
        """One of `EXTRAS`, in float32."""
        file = EXTRA_FILES[name]
        if name == "preprocessing":
            from .graph.preprocessing import write_with_preprocessing

            rows, proof = write_with_preprocessing(
                self._float32(), self._path(file), file, self.cfg, self.references
            )
            self.rows += rows
            self.attestation[file] = proof
            return
        makers = {
            "embeddings": embedding_form,
            "features": feature_form,
            "attention": attention_form,
        }
        form: Form = makers[name](self.model)
        cfg = self.cfg if name != "embeddings" else replace(self.cfg, num_classes=0, labels=())
        program = capture(form.module, cfg.input.in_chans, self.axes)
        write_onnx(program, self._path(file), cfg, self.spec, self.axes, form.outputs)
        self._judge(file, References(form, cfg, self.spec, self.axes))

    def _accuracy(self, file: str) -> dict[str, Any]:
        """What a file loses on labelled images. Raises: ParityError if that is too much."""
        from .comparison.reference import eager_runner
        from .graph.quantization import top1_loss
        from .runtime import open_onnx

        eager, output = eager_runner(self.model, self.form.outputs), self.form.outputs[0]
        found = top1_loss(open_onnx(self._path(file)).run, lambda x: eager(x)[output], self.cfg)
        loss = found["top1_loss_points"]
        if loss is not None and loss > self.spec.int8_top1_loss and not self.allow_drift:
            raise ParityError(
                f"{file} loses {loss:.2f} points of top-1 on {found['data']}; at most "
                f"{self.spec.int8_top1_loss} pass. Nothing was written"
            )
        return found

    def _float32(self) -> onnx.ModelProto:
        """The float32 graph, made once."""
        if self._proto is None:
            check_size(weights_size(self.model), self.cfg.name)
            self._proto = translate(
                self._captured(), self.cfg, self.spec, self.axes, self.form.outputs
            )
        return self._proto

    def _captured(self) -> ExportedProgram:
        if self._program is None:
            self._program = capture(self.model, self.cfg.input.in_chans, self.axes)
        return self._program

    def _path(self, file: str) -> Path:
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        return path

    def _judge(
        self,
        file: str,
        references: References,
        notes: dict[str, Any] | None = None,
        accurate: bool = True,
    ) -> None:
        rows, proof = check_file(
            self._path(file), _KINDS[Path(file).suffix], file, references, precision_of(file)
        )
        self.rows += [replace(row, passed=row.passed and accurate) for row in rows]
        if proof or notes:
            self.attestation[file] = {**proof, **(notes or {})}
