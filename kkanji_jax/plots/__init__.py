"""Figures of a run: one figure a file; `python -m kkanji_jax.plots` draws them all."""
