"""One file per family: constructor, forward, and remaps of foreign state-dict layouts."""
