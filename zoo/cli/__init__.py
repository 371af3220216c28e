"""The command `convattn`: a module per group of verbs, imported when a verb of it runs."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import click

from .. import __version__
from ..errors import NoWeightsError, ZooError, shorten
from ..files.json_text import to_json
from ..files.processes import safe_children
from ._console import LazyGroup, OutputClosed
from ._signals import clean_stops, exit_status

_SPENT = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
_REQUIRED = {
    **{name: name for name in ("torch", "timm", "huggingface_hub", "safetensors", "einops")},
    **{name: name for name in ("onnx", "onnxscript", "onnxruntime", "numpy", "rich")},
    "PIL": "pillow",
    "markdown_it": "markdown-it-py",
}  # import name -> distribution

OUTPUT_CLOSED = 141  # as shells see a program that SIGPIPE ended

_WEIGHTS = {
    "weights": "--weights FILE (safetensors or a checkpoint)",
    "init": "--init SEED for random weights",
}  # parameter -> what else gives a model weights

# verb -> (module, help line); the line stands here so that --help imports no verb
_VERBS = {
    "list": ("list", "Show the models: parameters, MACs, input size, weights."),
    "info": ("list", "Show everything the registry knows about one model."),
    "cite": ("list", "Print whom to cite for a model, as BibTeX."),
    "doctor": ("list", "Say which execution providers really load, and what is missing."),
    "predict": ("predict", "Classify images with a model or an exported file."),
    "embed": ("embed", "Write the features of a folder of images to an .npz file."),
    "evaluate": ("evaluate", "Measure a model's accuracy, calibration and confusion."),
    "analyze": ("analyze", "Measure what models do inside, and draw it (15 analyses)."),
    "train": ("train", "Train a model."),
    "import": (
        "import_checkpoint",
        "Turn someone else's checkpoint into a model, safely.",
    ),
    "export": ("export", "Export a model to ONNX and TorchScript, verified against float64."),
    "verify": ("verify", "Check digests and parity of an export again, on any provider."),
    "bundle": ("publish", "Write an export with config for timm, card and licence."),
    "publish": ("publish", "Send a bundle to the Hub: one commit, one tag."),
    "fetch": ("cache", "Download and verify weights ahead of use, or into a mirror."),
    "pin": ("cache", "Pin weights of other people's repositories to commit and digest."),
    "cache": ("cache", "List, verify or remove downloaded files (list | verify | remove)."),
    "card": ("publish", "Render a model card from its record and what was measured."),
    "bench": ("bench", "Measure latency, memory and loading beside peers."),
    "gallery": ("gallery", "Write pages that run models, and prove them, in a browser."),
    "demo": ("demo", "Load, classify, export, verify and draw, in one go."),
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
    6 resources, 7 export, parity or provider, 130 interrupted (143 and 129 by SIGTERM and SIGHUP),
    141 if nobody reads on what is printed.
    """
    _fill_streams()
    # whether an image is too large is said by our own rule, as an error
    warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")
    with clean_stops() as came, safe_children():
        try:
            _main(sys.argv[1:] if args is None else args)
        except SystemExit as error:
            if came and error.code != 128 + came[-1]:  # a library made an error of its own of it
                sys.exit(128 + came[-1])
            raise


def _main(args: list[str]) -> None:
    _warn_of_foreign_packages()
    try:
        cli.main(args=args, prog_name="convattn", standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        _stop("interrupted", "interrupted", exit_status(error), args)
    except click.UsageError as error:
        if "--json" in args:
            _stop("usage", error.format_message(), 2, args)
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except ZooError as error:
        text = f"{error}{_ways_to_weights(args) if isinstance(error, NoWeightsError) else ''}"
        _stop(error.code, text, error.exit_code, args, getattr(error, "report", None))
    except (BrokenPipeError, OutputClosed):
        _drop_output()
        sys.exit(OUTPUT_CLOSED)
    except OSError as error:
        if error.errno is None:  # a library's own, not the system's
            _bug(error, args)
        _stop("system", _system_message(error), 6 if error.errno in _SPENT else 3, args)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _REQUIRED:
            _bug(error, args)
        text = f"this needs {package}, which is not installed; pip install {_REQUIRED[package]}"
        _stop("missing_dependency", text, 3, args)
    except MemoryError:
        _stop("memory", "out of memory; use a smaller batch or model", 6, args)
    except Exception as error:  # the outermost frame: whatever is left is a bug of ours
        _bug(error, args)
    sys.exit(0)


def _ways_to_weights(args: list[str]) -> str:
    """What else the verb takes that has no weights for its model."""
    command: click.Command | None = cli
    for word in args:
        if isinstance(command, click.Group) and not word.startswith("-"):
            command = command.get_command(click.Context(command), word)
    names = {parameter.name for parameter in command.params} if command else set()
    ways = [way for name, way in _WEIGHTS.items() if name in names]
    return f". Or give {' or '.join(ways)}" if ways else ""


def _fill_streams() -> None:
    """A closed standard stream becomes the null device; the next file would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


def _bug(error: Exception, args: list[str]) -> NoReturn:
    if os.environ.get("CONVATTN_TRACEBACK"):
        raise error
    text = f"{type(error).__name__}: {error}; this is a bug of convattn-zoo: set "
    _stop("bug", text + "CONVATTN_TRACEBACK=1 for the trace, and report it", 1, args)


def _system_message(error: OSError) -> str:
    """What the system refused, and for which path: a name too long, a folder that is closed."""
    where = "reading or writing"
    if isinstance(error.filename, str | bytes | os.PathLike):
        where = repr(os.fsdecode(error.filename))
    advice = "free some, or write elsewhere" if error.errno in _SPENT else "check path and rights"
    return f"{where}: {error.strerror}; {advice}"


def _stop(code: str, message: str, status: int, args: list[str], report: Any = None) -> NoReturn:
    message = shorten(message)
    click.echo(f"error: {message}", err=True)
    if "--json" in args:
        import json

        content: dict[str, Any] = {"error": {"code": code, "message": message}}
        if report is not None:
            content["parity"] = json.loads(report.to_json())
        with contextlib.suppress(OSError):  # standard output may be what is full
            click.echo(to_json(content))
    if code == "system":
        _drop_output()
    sys.exit(status)


def _drop_output() -> None:
    """What standard output still holds is not written when Python ends: it cannot be."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
