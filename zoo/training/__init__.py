"""Data sources, recipes and the training loop behind `convattn train`."""
