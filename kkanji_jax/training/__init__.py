"""Training: the step, its state, its input, and the loop."""
