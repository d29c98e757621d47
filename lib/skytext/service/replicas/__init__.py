"""The deployments on Ray Serve, and what runs in their replicas."""
