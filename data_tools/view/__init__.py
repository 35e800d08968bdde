"""A dataset for the eye: counts, contact sheets, the audit page."""
