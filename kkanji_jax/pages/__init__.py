"""Whole pages: files of boxes from other programs, the order of reading, IIIF."""
