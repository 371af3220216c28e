"""Measurements of this repository: what it costs, beside its peers. Run in a checkout."""
