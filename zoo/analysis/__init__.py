"""Architecture-blind measurements on models and their attention. Plots are in `plots` alone."""
