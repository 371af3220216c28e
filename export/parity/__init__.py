"""How far an exported file is from the float64 reference, and where it leaves it."""
