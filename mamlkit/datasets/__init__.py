"""Data sets: images of characters and faces, bundled, drawn or fetched."""
