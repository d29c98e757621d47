"""Compute bounding boxes, and compare footprints with GeoJSON geometries."""
