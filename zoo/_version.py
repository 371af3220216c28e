"""The version, as a literal: a torch.hub checkout has no installed metadata to ask."""

__version__ = "0.1.0"
