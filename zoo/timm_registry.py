"""Alias for one release: importing this module calls `zoo.register_in_timm()`."""

from .factory.timm_registry import register_in_timm

register_in_timm()
