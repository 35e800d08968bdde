"""EfficientNet-B7 at 64 px.

full   python -m kkanji_jax.train --config configs/b7.py
       All classes, one GPU or more. Not run yet: no time or score to state.
smoke  python -m kkanji_jax.train --config configs/b7.py:smoke
       One epoch of small batches at 32 px: does everything work? Scores mean nothing.
"""

from kkanji_jax.config import Config, paper_config


def get_config(variant: str = "full") -> Config:
    """Returns the run that `variant` (full or smoke) names."""
    return paper_config("b7", variant)
