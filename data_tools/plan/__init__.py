"""The content of a dataset: the audit, the protocols, the splits, the order of examples."""
