"""Reads a collection of images on a Ray cluster: its listing, partitions, and files of rows."""
