"""Archives, folders and image formats become one catalogue of originals."""
