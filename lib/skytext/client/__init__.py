"""The client of the HTTP service. It can also be installed alone: see `skytext_client`."""

from skytext_client import *  # noqa: F403
from skytext_client import __all__ as __all__
