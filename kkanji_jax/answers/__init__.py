"""What a reader asks of predict and gets: rows, texts of pages, drawings, scores of labels."""
