"""The retrievers. They compare description vectors, description words or image vectors."""
