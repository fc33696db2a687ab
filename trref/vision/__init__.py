"""Finding outlines in images."""
