"""The deployments on Ray Serve, and the code of their replicas."""
