"""A trained network in use: from images and pages to rows of candidates."""
