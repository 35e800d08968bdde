"""Trained networks on disk: the checkpoints of a run, and bundles."""
