"""What a reader is given: rows in each format, texts of pages, drawings, scores of labels."""
