"""The release of Lightning whose behaviour the port has; scripts compare it."""

__version__ = "2.6.6"
