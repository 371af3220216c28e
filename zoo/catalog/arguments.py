"""Arguments of the public functions that Python takes without a word and would get wrong. No torch.

Any text is true, ``"false"`` too; a path is no text until it is made one.
"""

from __future__ import annotations

import os

from ..errors import ConfigError


def check_flags(advice: str = "", /, **flags: object) -> None:
    """Raise ConfigError for a flag that is neither True nor False; `advice` says what else to do.

    Example: ``check_flags(overwrite=overwrite)``
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be True or False; got {value!r:.60}{advice}")


def as_text(value: str | os.PathLike[str], what: str) -> str:
    """A reference or specification as text. A path object is a place, never a name: ``Path("run")``
    is ``"./run"``.

    Args: what: the argument is called, for the message.
    Raises: ConfigError for what is neither text nor a path.
    """
    if isinstance(value, str):
        return value
    place = os.fspath(value) if isinstance(value, os.PathLike) else None
    if not isinstance(place, str):
        raise ConfigError(f"{what} must be text or a path; got {value!r:.60}")
    return place if os.path.dirname(place) else os.path.join(os.curdir, place)
