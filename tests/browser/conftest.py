"""TensorBoard's own pages, changed on their way, in a browser."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Change = Callable[[str, bytes], bytes]
"""What becomes of an answer, of its path and its body."""


@pytest.fixture(scope="session")
def tensorboard() -> Callable[[Path, Change], AbstractContextManager[str]]:
    """Serves a directory: ``with tensorboard(directory, change) as address``."""

    @contextmanager
    def serve(directory: Path, change: Change) -> Iterator[str]:
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(directory), "--port", "0", "--host", "127.0.0.1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"at (http://127.0.0.1:\d+)/", line) for line in process.stderr)), None)
        assert found is not None, "TensorBoard did not start"
        threading.Thread(target=process.stderr.read, daemon=True).start()  # it would stop at a full pipe
        server = ThreadingHTTPServer(("127.0.0.1", 0), _between(found[1], change))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            process.terminate()
            process.wait()
            process.stderr.close()

    return serve


def _between(address: str, change: Change) -> type[BaseHTTPRequestHandler]:
    class Between(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass_on(None)

        def do_POST(self) -> None:
            self._pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _pass_on(self, sent: bytes | None) -> None:
            headers = {"Content-Type": self.headers["Content-Type"]} if self.headers.get("Content-Type") else {}
            try:
                with urllib.request.urlopen(urllib.request.Request(address + self.path, sent, headers)) as response:
                    body, kind = response.read(), response.headers.get("Content-Type", "")
                    if response.headers.get("Content-Encoding") == "gzip":
                        body = gzip.decompress(body)
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            body = change(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Between


@pytest.fixture(scope="session")
def document(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The HTML of a page once its scripts have run."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs a Chromium")

    def read(address: str) -> str:
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--window-size=1600,2000",
            f"--user-data-dir={tmp_path_factory.mktemp('chromium')}", "--virtual-time-budget=40000", "--dump-dom", address,
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return read
