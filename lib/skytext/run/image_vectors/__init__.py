"""`embed-images`: vectors of the images themselves, in a run of their own."""
