"""One pass over a split, every example once, and all scores computed from it."""
