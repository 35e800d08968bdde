"""Whole pages: files of boxes from other programs, the reading order, IIIF."""
