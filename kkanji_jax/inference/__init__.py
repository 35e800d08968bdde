"""Inference: from images and pages to rows of candidates."""
