"""Shows a dataset: counts, contact sheets, the audit page."""
