"""Signed addresses and passwords reach no terminal, no log and no message."""

from __future__ import annotations

import logging

import pytest

from zoo.errors import ZooError
from zoo.files.addresses import guard_logs, plain_address, without_secrets
from zoo.files.mirror import Mirror

SIGNED = "https://user:word@cdn.example/a/b?X-Amz-Signature=5ecret&sig=5ecret#5ecret"


def test_an_address_is_shown_without_its_secrets() -> None:
    assert plain_address(SIGNED) == "https://cdn.example/a/b"
    assert plain_address("/share/mirror?x") == "/share/mirror?x"
    text = f"Error while downloading from {SIGNED}: cut\nTrying '{SIGNED}' again"
    assert "5ecret" not in without_secrets(text)
    assert "word" not in without_secrets(text)
    assert without_secrets(text).endswith("Trying 'https://cdn.example/a/b' again")


@pytest.mark.parametrize(
    "name", ["huggingface_hub.file_download", "huggingface_hub.utils._http", "httpx"]
)
def test_what_the_client_logs_has_no_secrets(name: str, caplog: pytest.LogCaptureFixture) -> None:
    import huggingface_hub.file_download

    assert huggingface_hub.file_download
    logger = logging.getLogger(name)
    guard_logs()
    guard_logs()
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        logger.error("Error while downloading from %s: %s\nTrying", SIGNED, "cut")
        logger.error("nothing %s secret", "is")
    finally:
        logger.removeHandler(handler)
    assert seen == [
        "Error while downloading from https://cdn.example/a/b: cut\nTrying",
        "nothing is secret",
    ]


def test_errors_of_a_mirror_show_its_address_without_secrets() -> None:
    mirror = Mirror("http://user:5ecret@127.0.0.1:1/files?sig=5ecret")
    for attempt in (lambda: mirror.resolve("a/b", "main"), lambda: mirror.locate("a/b", "x", "c")):
        with pytest.raises(ZooError) as caught:
            attempt()
        assert "5ecret" not in str(caught.value)
