"""Bytes on disk and from afar, verified on every read. No torch."""
