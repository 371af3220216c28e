"""``python -m zoo`` is the command ``convattn``."""

from .cli import main

if __name__ == "__main__":
    main()
