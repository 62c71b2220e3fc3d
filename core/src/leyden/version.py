"""The version of leyden-core, which is that of every distribution of the house."""

from __future__ import annotations

__version__ = "0.1.0"
