"""Settings. Each section has its own module, and `skytext.config.settings` combines them."""
