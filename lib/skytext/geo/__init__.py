"""Bounding boxes, footprints and GeoJSON geometries."""
