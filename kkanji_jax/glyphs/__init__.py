"""Any image file becomes a glyph: 64x64 pixels, white ink on black."""
