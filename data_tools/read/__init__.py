"""Reads archives, folders and image formats into one catalogue of originals."""
