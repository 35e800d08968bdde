"""The published files: the table of archives, and their transfer."""
