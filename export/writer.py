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

from zoo.errors import ConfigError, ExportError, ParityError
from zoo.factory.description import PretrainedCfg
from zoo.files.provenance import package_versions
from zoo.files.stages import stage

from .formats.axes import Axes, axes_of
from .formats.capture import capture
from .formats.extras import extra_file, extras_in
from .formats.made_before import graph_made_before
from .formats.metadata import metadata_of
from .formats.onnx_file import save_onnx, translate, weights_size
from .formats.outputs import form_with, own_form
from .graph.checks import check_size
from .parity.measure import References, check_file
from .parity.report import ParityReport, ParityRow
from .spec import _KINDS, FORMATS, PRECISIONS, ExportSpec, precision_of

if TYPE_CHECKING:
    import onnx
    from torch import nn
    from torch.export import ExportedProgram

    from .parity.calibration import OwnImages


def check_names(what: str, given: Any, known: Any) -> None:
    """Raises: ConfigError for a name that does not exist."""
    unknown = [name for name in given if name not in known]
    if unknown or isinstance(given, str):
        raise ConfigError(f"{what} are {', '.join(known)}; got {given!r}")


def check_exportable(cfg: PretrainedCfg, spec: ExportSpec, formats: Any) -> None:
    """Raises: ExportError with the record's reason for what an architecture cannot do."""
    import zoo

    if not cfg.architecture or cfg.is_foreign:
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
        own: images of the user's for int8; None takes what ships with the package.
        allow_drift: keep an int8 file that loses too much accuracy.
        exported: directory of an earlier export of these weights; its graph is taken where it is
            the one that would be made.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: PretrainedCfg,
        spec: ExportSpec,
        folder: Path,
        own: OwnImages | None = None,
        allow_drift: bool = False,
        exported: Path | None = None,
    ) -> None:
        self.model = model
        self.cfg = cfg
        self.spec = spec
        self.folder = folder
        self.own = own
        self.allow_drift = allow_drift
        self.exported = exported
        self.axes = axes_of(model, cfg.input, spec)
        self.form = own_form(model)
        self.references = References(self.form, cfg, spec, self.axes)
        self.rows: list[ParityRow] = []
        self.attestation: dict[str, Any] = {}
        self._programs: dict[Axes, ExportedProgram] = {}
        self._proto: onnx.ModelProto | None = None
        self._float32_top1: float | None = None

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
        outputs, axes = self.form.outputs, self.axes if name == "onnx" else self.axes.strided
        if name == "onnx":
            save_onnx(self._float32(), path, self._metadata(), self.spec.opset, self.cfg.name)
        elif name == "pt2":
            from .formats.pt2_file import write_pt2

            write_pt2(self._captured(axes), path, self.cfg, self.spec, axes, outputs)
        elif name == "aoti":
            from .formats.aoti_file import write_aoti

            stage(FORMATS[name], "compiling")
            write_aoti(self._captured(axes), path, self.cfg, self.spec, axes, outputs)
        else:
            from .formats.torchscript_file import write_torchscript

            stage(FORMATS[name], "tracing")
            write_torchscript(self.model, path, self.cfg, self.spec, axes, outputs)
        self._judge(FORMATS[name], self.references.within(axes))

    def write_precision(self, name: str) -> None:
        """One of `PRECISIONS` other than float32, made from the float32 graph."""
        from .graph.int8 import to_int8
        from .parity.calibration import calibration_batches
        from .parity.exactness import check_exactness
        from .parity.float16_search import to_float16

        stage(PRECISIONS[name], "finding a form in this precision")
        if name == "float16":
            proto, notes = to_float16(self._float32(), self.references)
        else:
            static = name.endswith("static")
            images = calibration_batches(self.cfg, self.own) if static else None
            proto, notes = to_int8(self._float32(), self.cfg, images)
        file = PRECISIONS[name]
        save_onnx(proto, self._path(file), self._metadata(name), self.spec.opset, self.cfg.name)
        accurate = True
        if precision_of(file) == "int8":
            stage(file, "comparing with the reference evaluator")
            notes |= check_exactness(self._path(file), self.references)
            stage(file, "measuring its accuracy")
            notes["accuracy"] = self._accuracy(file)
            loss = notes["accuracy"]["top1_loss_points"]
            accurate = loss is None or loss <= self.spec.int8_top1_loss
        self._judge(file, self.references, notes, accurate)

    def write_extra(self, extra: str) -> None:
        """One of `EXTRAS`, or several joined by "+", in float32."""
        file = extra_file(extra)
        names = extras_in(file)
        cfg, references, proto = self.cfg, self.references, None
        if {"embeddings", "features", "attention"} & set(names):
            stage(file, "capturing and translating")
            form = form_with(self.model, names)
            if "embeddings" in names:
                cfg = replace(cfg, num_classes=0, labels=())
            references = References(form, cfg, self.spec, self.axes)
            program = capture(form.module, cfg.input.in_chans, self.axes)
            proto = translate(program, cfg, self.spec, self.axes, form.outputs)
        if "preprocessing" in names:
            from .parity.images import write_with_preprocessing

            stage(file, "comparing with float64")
            rows, proof = write_with_preprocessing(
                proto or self._float32(), self._path(file), file, cfg, references
            )
            self.rows += rows
            self.attestation[file] = proof
            return
        assert proto is not None  # every other extra makes a graph of its own
        metadata = metadata_of(cfg, self.spec, self.axes, references.form.outputs)
        save_onnx(proto, self._path(file), metadata, self.spec.opset, cfg.name)
        self._judge(file, references)

    def _accuracy(self, file: str) -> dict[str, Any]:
        """What a file loses on labelled images. Raises: ParityError if that is too much."""
        from .parity.calibration import top1_loss
        from .parity.reference import eager_runner
        from .runtime.opening import open_onnx

        eager, output = eager_runner(self.model, self.form.outputs), self.form.outputs[0]
        session = open_onnx(self._path(file))
        found = top1_loss(
            session.run, lambda x: eager(x)[output], self.cfg, self.own, self._float32_top1
        )
        self._float32_top1 = found.get("float32_top1_percent")
        loss = found["top1_loss_points"]
        if loss is not None and loss > self.spec.int8_top1_loss and not self.allow_drift:
            raise ParityError(
                f"{file} loses {loss:.2f} points of top-1 on the {found['images']} images of "
                f"{found['data']}; at most {self.spec.int8_top1_loss} pass. Nothing was written; "
                "leave int8 out, or name more images with --data"
            )
        return found

    def _metadata(self, precision: str = "float32") -> dict[str, str]:
        return metadata_of(self.cfg, self.spec, self.axes, self.form.outputs, precision)

    def _float32(self) -> onnx.ModelProto:
        """The float32 graph, made once."""
        if self._proto is None and self.exported is not None:
            self._proto = graph_made_before(self.exported, self._metadata())
        if self._proto is None:
            check_size(weights_size(self.model), self.cfg.name)
            program = self._captured(self.axes)
            stage(FORMATS["onnx"], "translating")
            self._proto = translate(program, self.cfg, self.spec, self.axes, self.form.outputs)
        return self._proto

    def _captured(self, axes: Axes) -> ExportedProgram:
        if axes not in self._programs:
            stage(self.cfg.name, "capturing the graph")
            self._programs[axes] = capture(self.model, self.cfg.input.in_chans, axes)
        return self._programs[axes]

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
        stage(file, "comparing with float64")
        rows, proof = check_file(
            self._path(file), _KINDS[Path(file).suffix], file, references, precision_of(file)
        )
        self.rows += [replace(row, passed=row.passed and accurate) for row in rows]
        if proof or notes:
            self.attestation[file] = {**proof, **(notes or {})}
