"""How long models and files take, beside each other."""
