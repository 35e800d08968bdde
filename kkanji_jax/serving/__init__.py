"""The HTTP server: requests in, the rows of predict out."""
