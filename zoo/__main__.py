"""``python -m zoo`` is the command ``convattn``."""

from __future__ import annotations

from .files.processes import forget_working_directory

forget_working_directory()  # before anything outside the standard library is imported

from .cli import main  # noqa: E402

if __name__ == "__main__":
    main()
