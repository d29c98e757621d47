"""Settings: one module a section; `skytext.config.settings` puts them together."""
