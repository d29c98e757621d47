"""The deployments on Ray Serve, and the code that runs in their replicas."""
