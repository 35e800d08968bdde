"""Figures of a run: one figure per file; `python -m kkanji_jax.plots` draws them all."""
