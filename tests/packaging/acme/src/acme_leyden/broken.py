"""Wants something that is not installed."""

from acme_client_that_nobody_has import Callback

__all__ = ["Callback"]
