"""The client of the HTTP service. `skytext_client` is the same client as a separate package."""

from skytext_client import *  # noqa: F403
from skytext_client import __all__ as __all__
