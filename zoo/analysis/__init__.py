"""Architecture-blind measurements on models and their attention: see docs/analyses.

Each takes an `nn.Module` (or a function from images to logits) and a loader, leaves the model as it
was, and returns a frozen result with its numbers and the definition they follow. Figures are in
`plots` alone.
"""
