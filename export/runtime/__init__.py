"""Exported files are opened, and the provider that runs them is proven."""
