"""The HTTP service: the API, its deployments on Ray Serve, and the web page."""
