"""What a dataset will hold: the audit, the protocols, the splits, the order of examples."""
