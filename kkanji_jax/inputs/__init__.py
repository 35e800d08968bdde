"""The images that a reader gives: found, opened, cut out of pages, decoded."""
