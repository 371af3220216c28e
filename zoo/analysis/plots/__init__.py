"""Figures. The only package that imports matplotlib, and only inside functions."""
