"""A checkpoint made elsewhere becomes a model directory."""
