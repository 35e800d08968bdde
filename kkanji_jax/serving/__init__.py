"""Readings over HTTP: requests in, the rows of predict out."""
