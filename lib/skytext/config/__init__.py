"""The settings.

Each section of the settings has its own module. The module `skytext.config.settings` combines the
sections.
"""
