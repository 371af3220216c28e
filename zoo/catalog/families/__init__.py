"""One data file per family: the only place where a fact about a model is written."""
