"""From what a reader has, files or boxes on a page, to the rows that `predict` writes."""
