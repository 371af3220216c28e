"""One exported file: read back by its digest, and written under its name once it has passed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError
from zoo.factory.description import PretrainedCfg
from zoo.files.local import atomic_path

from .formats.axes import Axes
from .formats.capture import capture
from .formats.onnx_file import weights_size, write_onnx
from .formats.outputs import Form
from .formats.pt2_file import write_pt2
from .formats.surroundings import clean_room, unwrapped
from .formats.torchscript_file import write_torchscript
from .graph.checks import check_size
from .parity.report import ParityReport
from .spec import ExportSpec

if TYPE_CHECKING:
    from torch import nn


# (temporary path, cfg, spec, axes, form)
Writer = Callable[[Path, PretrainedCfg, "ExportSpec", "Axes", "Form"], None]


@clean_room()
def write_verified(
    kind: str,
    model: nn.Module,
    path: str | Path,
    spec: ExportSpec | None,
    image: InputSpec | None,
    write: Writer,
) -> ParityReport:
    """Write a file of `kind` with `write`, compare it, and give it its name.

    Args and errors: as `export.to_onnx`.
    """
    # reading works without torch; only writing needs these
    from zoo.files.ledger import remember
    from zoo.files.local import sha256_file
    from zoo.files.provenance import package_versions

    from .formats.axes import axes_of
    from .formats.metadata import describe_for
    from .formats.outputs import own_form
    from .parity.measure import References, check_file
    from .parity.report import ParityReport, require_parity

    _check_arguments(path, spec, image)
    spec, model = spec or ExportSpec(), unwrapped(model)
    cfg = describe_for(model, spec, image)
    form, axes = own_form(model), axes_of(model, cfg.input, spec)
    axes = axes if kind == "onnx" else axes.strided
    references = References(form, cfg, spec, axes)
    name = Path(path).name
    with atomic_path(path) as temporary:
        write(temporary, cfg, spec, axes, form)
        rows, proof = check_file(temporary, kind, name, references)
        attestation = {name: proof} if proof else {}
        report = ParityReport(
            cfg.name, cfg.version, cfg.sha256, rows, attestation, package_versions()
        )
        require_parity(report)
        remember([sha256_file(temporary)])
    return report


def _check_arguments(path: Any, spec: Any, image: Any) -> None:
    """Raises: ConfigError, also for the order that torch.onnx.export has."""
    for name, value, kinds, wanted in (
        ("path", path, (str, os.PathLike), "a path"),
        ("spec", spec, (ExportSpec, type(None)), "an ExportSpec"),
        ("input", image, (InputSpec, type(None)), "an InputSpec"),
    ):
        if not isinstance(value, kinds):
            raise ConfigError(
                f"{name} must be {wanted}; got a {type(value).__name__}. No example of an input is "
                "needed: to_onnx(model, path, input=InputSpec(size=(H, W)))"
            )


def to_onnx(
    model: nn.Module,
    path: str | Path,
    spec: ExportSpec | None = None,
    *,
    input: InputSpec | None = None,
) -> ParityReport:
    """Write a model as one ONNX file, verified on the CPU provider.

    The model passed in is copied, never changed. The file appears at `path` only if every batch
    size and image size of `spec` agrees with the float64 reference.

    Args:
        input: preprocessing of a model that `zoo.create_model` did not build; of one that it did,
            the image size to export at.
    Returns: the (passing) report.
    Raises: ExportError (the exporter failed), ParityError (too far from the reference),
        ResourceError.
    """

    def write(path: Path, cfg: PretrainedCfg, spec: ExportSpec, axes: Axes, form: Form) -> None:
        program = capture(form.module, cfg.input.in_chans, axes)
        write_onnx(program, path, cfg, spec, axes, form.outputs)

    check_size(weights_size(model), type(model).__name__)
    return write_verified("onnx", model, path, spec, input, write)


def to_pt2(
    model: nn.Module,
    path: str | Path,
    spec: ExportSpec | None = None,
    *,
    input: InputSpec | None = None,
) -> ParityReport:
    """Write a model as a torch.export archive, verified at every batch size of `spec`.

    Arguments, result and errors as `export.to_onnx`.
    """

    def write(path: Path, cfg: PretrainedCfg, spec: ExportSpec, axes: Axes, form: Form) -> None:
        program = capture(form.module, cfg.input.in_chans, axes)
        write_pt2(program, path, cfg, spec, axes, form.outputs)

    return write_verified("pt2", model, path, spec, input, write)


def to_torchscript(
    model: nn.Module,
    path: str | Path,
    spec: ExportSpec | None = None,
    *,
    input: InputSpec | None = None,
) -> ParityReport:
    """Write a model as a traced TorchScript file, verified at batch sizes other than the traced
    one.

    Arguments, result and errors as `export.to_onnx`.
    """

    def write(path: Path, cfg: PretrainedCfg, spec: ExportSpec, axes: Axes, form: Form) -> None:
        write_torchscript(form.module, path, cfg, spec, axes, form.outputs)

    return write_verified("torchscript", model, path, spec, input, write)
