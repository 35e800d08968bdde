"""The recogniser and its parts: images in, readings out."""
