"""One exact pass over a split, and every score that is made of it."""
