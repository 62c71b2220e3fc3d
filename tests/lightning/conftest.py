"""What the tests of the port share: uses of something old are said once, and so are forgotten before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from leyden_lightning.legacy import notices


@pytest.fixture(autouse=True)
def fresh_notices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.delenv(variable, raising=False)
    notices.forget()
    yield
    notices.forget()
