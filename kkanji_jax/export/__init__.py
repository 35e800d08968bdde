"""A trained model as a bundle of plain files, readable without JAX."""
