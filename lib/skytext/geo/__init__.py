"""Boxes, footprints and geometries in GeoJSON."""
