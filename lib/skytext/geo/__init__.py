"""Boxes and footprints as GeoJSON."""
