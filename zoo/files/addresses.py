"""Addresses as they may be shown: without passwords and signatures. No torch.

File hosts are reached by signed addresses (``?sig=``, ``X-Amz-Signature=``): whoever reads one in a
terminal or a log can use it.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit, urlunsplit

_ADDRESS = re.compile(r"https?://[^\s'\"<>]*[^\s'\"<>:.,;)]", re.IGNORECASE)
_TALKERS = ("huggingface_hub", "httpx", "httpx2", "httpcore", "urllib3", "filelock")


def plain_address(address: str) -> str:
    """An address without user, password, query and fragment; anything else as it is."""
    if not address.startswith(("http://", "https://")):
        return address
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def without_secrets(text: str) -> str:
    """A text whose addresses are plain."""
    return _ADDRESS.sub(lambda found: plain_address(found[0]), text)


class _Plain(logging.Filter):
    """Makes the addresses of a log record plain, for whatever handler it goes to."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        plain = without_secrets(text)
        if plain != text:
            record.msg, record.args = plain, ()
        return True


_PLAIN = _Plain()


def guard_logs() -> None:
    """Keep secrets out of what the client and its transport log. Once for every logger."""
    import huggingface_hub.file_download  # noqa: F401  # makes the loggers

    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _TALKERS:
            logging.getLogger(name).addFilter(_PLAIN)
