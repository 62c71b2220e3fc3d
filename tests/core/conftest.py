"""Core by itself, as where nothing but leyden-core is installed."""

from __future__ import annotations

import pytest
from leyden.plugins import installed


@pytest.fixture
def core_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches off every plug-in, so that a ``Trainer()`` writes and prints nothing and has the plain parts."""
    monkeypatch.setenv("LEYDEN_DISABLE_PLUGINS", ",".join(sorted({plugin.distribution for plugin in installed()})))
