"""The HTTP service: the HTTP API, the deployments on Ray Serve, and the web page."""
