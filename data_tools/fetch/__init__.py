"""The published files: the table of archives, and downloading them."""
