"""What the tests of core share: core by itself, and distributions made on the fly."""

from __future__ import annotations

import functools
import http.server
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest
from leyden.plugins import installed


@pytest.fixture
def core_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches off every plug-in, so that a ``Trainer()`` writes and prints nothing and has the plain parts."""
    monkeypatch.setenv("LEYDEN_DISABLE_PLUGINS", ",".join(sorted({plugin.distribution for plugin in installed()})))


@pytest.fixture
def server() -> Iterator[str]:
    """A web server for the working directory, on a port of the system's choice."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(Path.cwd())))
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    served.shutdown()
    served.server_close()
    thread.join()


class MakeDistribution(Protocol):
    def __call__(
        self, name: str, entry_points: Mapping[str, Mapping[str, str]], source: str = ..., version: str = ...
    ) -> str: ...


@pytest.fixture
def distribution(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeDistribution]:
    """Makes distributions of one module each and puts them on the search path, as if they were installed.

    ``distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:Logger"}}, source)`` has the module ``acme_leyden``.
    """
    modules: list[str] = []

    def make(name: str, entry_points: Mapping[str, Mapping[str, str]], source: str = "", version: str = "1.0") -> str:
        folder = tmp_path_factory.mktemp("site")
        module = re.sub(r"[-.]", "_", name)
        (folder / f"{module}.py").write_text(source)
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in names.items())
            for group, names in entry_points.items()
        ]
        (info / "entry_points.txt").write_text("".join(lines))
        monkeypatch.syspath_prepend(folder)
        modules.append(module)
        return module

    yield make
    for module in modules:
        sys.modules.pop(module, None)
