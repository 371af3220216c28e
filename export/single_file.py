"""One exported file: read back by its digest, and written under its name once it has passed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import InputSpec, PretrainedCfg
from zoo.errors import IntegrityError
from zoo.files import atomic_path, read_regular_file, sha256_bytes

if TYPE_CHECKING:
    from torch import nn

    from .axes import Axes
    from .forms import Form
    from .parity import ParityReport
    from .spec import ExportSpec

# (temporary path, cfg, spec, axes, form)
Writer = Callable[[Path, PretrainedCfg, "ExportSpec", "Axes", "Form"], None]


def read_by_digest(path: str | Path, what: str, sha256: str | None) -> bytes:
    """The bytes of a file. Raises: IntegrityError if their digest is not the one expected."""
    data = read_regular_file(path, what)
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise IntegrityError(
            f"{Path(path).name} has SHA-256 {sha256_bytes(data)}, expected {sha256}; export it "
            "again",
            code="hash",
        )
    return data


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
    from .axes import axes_of
    from .comparison.measuring import References, check_file
    from .description import describe_for, package_versions, require_parity
    from .forms import own_form
    from .parity import ParityReport
    from .spec import ExportSpec

    spec = spec or ExportSpec()
    cfg = describe_for(model, spec, image)
    form, axes = own_form(model), axes_of(model, cfg.input, spec)
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
    return report
