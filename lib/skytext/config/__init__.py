"""Settings: one module per section; `skytext.config.settings` combines them."""
