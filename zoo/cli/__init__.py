"""The command `convattn`: a module per group of verbs, imported when a verb of it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from .._version import __version__
from ..errors import ZooError
from ._lazy import LazyGroup

# verb -> (module, help line); the line stands here so that --help imports no verb
_VERBS = {
    "list": ("listing", "Show the models: parameters, MACs, input size, weights."),
    "info": ("listing", "Show everything the registry knows about one model."),
    "cite": ("listing", "Print whom to cite for a model, as BibTeX."),
    "doctor": ("doctoring", "Say which execution providers really load, and what is missing."),
    "predict": ("predicting", "Classify images with a model or an exported file."),
    "embed": ("embedding", "Write the features of a folder of images to an .npz file."),
    "evaluate": ("evaluating", "Measure a model's accuracy, calibration and confusion."),
    "analyze": ("analyzing", "Measure what models do inside, and draw it (15 analyses)."),
    "train": ("training", "Train a model."),
    "import": ("importing", "Turn someone else's checkpoint into a model directory, safely."),
    "export": ("exporting", "Export a model to ONNX and TorchScript, verified against float64."),
    "verify": ("verifying", "Check digests and parity of an export again, on any provider."),
    "bundle": ("publishing", "Write an export with config for timm, card and licence."),
    "publish": ("publishing", "Send a bundle to the Hub: one commit, one tag."),
    "fetch": ("caching", "Download and verify weights ahead of use, or into a mirror."),
    "pin": ("caching", "Pin weights of other people's repositories to commit and digest."),
    "cache": ("caching", "List, verify or remove downloaded files (list | verify | remove)."),
    "card": ("carding", "Render a model card from its record and what was measured."),
    "bench": ("benching", "Measure latency, memory and loading beside peers."),
    "demo": ("demonstrating", "Load, classify, export, verify and draw, in one go."),
}


@click.group(cls=LazyGroup, verbs=_VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="convattn")
@click.option("--offline", is_flag=True, help="Make no request: use what is in the cache.")
def cli(offline: bool) -> None:
    """Vision models in which convolution meets self-attention: load, train, export, verify.

    A MODEL is ARCH[.TAG][@X.Y.Z] (see `convattn list`), a directory that train or export wrote,
    hf-hub:org/name[@revision], or timm:NAME. predict also takes a single .onnx or .pt file.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # the Hub's client reads it when it is imported


def main(args: list[str] | None = None) -> None:
    """Run the command and exit: 0 ok, 1 our bug, 2 usage, 3 bad input, 4 integrity, 5 network,
    6 resources, 7 parity or provider, 130 interrupted.
    """
    args = sys.argv[1:] if args is None else args
    _warn_of_foreign_packages()
    try:
        cli.main(args=args, prog_name="convattn", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _stop("interrupted", "interrupted", 130, args)
    except click.UsageError as error:
        if "--json" in args:
            _stop("usage", error.format_message(), 2, args)
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except ZooError as error:
        _stop(error.code, str(error), error.exit_code, args, getattr(error, "report", None))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        _stop("memory", "out of memory; use a smaller batch or model", 6, args)
    except Exception as error:  # the outermost frame: whatever is left is a bug of ours
        if os.environ.get("CONVATTN_TRACEBACK"):
            raise
        text = f"{type(error).__name__}: {error}; this is a bug of convattn-zoo: set "
        _stop("bug", text + "CONVATTN_TRACEBACK=1 for the trace, and report it", 1, args)
    sys.exit(0)


def _stop(code: str, message: str, status: int, args: list[str], report: Any = None) -> None:
    click.echo(f"error: {message}", err=True)
    if "--json" in args:
        import json

        content: dict[str, Any] = {"error": {"code": code, "message": message}}
        if report is not None:
            content["parity"] = json.loads(report.to_json())
        click.echo(json.dumps(content))
    sys.exit(status)


def _warn_of_foreign_packages() -> None:
    """Two other distributions install a top-level `zoo` or `export`; name them if they are in the
    way.
    """
    from importlib.machinery import PathFinder

    home = Path(__file__).resolve().parents[2]
    for name in ("zoo", "export"):
        spec = PathFinder.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is not None and origin.parents[1] != home:
            click.echo(
                f"warning: another package named {name!r} at {origin.parent} can hide ours; "
                "use a separate virtual environment, or uninstall it",
                err=True,
            )
