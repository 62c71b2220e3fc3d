"""The PyTorch Profiler page of TensorBoard, in a browser, shows a trace of ours."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from leyden.testing import RandomData, TinyModule
from torch.utils.data import DataLoader

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")

# The page loads Google Charts from the internet; the tests have none, and need only the tables the page draws itself.
CHARTS = """
const anything = new Proxy(function () {}, {get: (_, key) => key === 'then' ? undefined : anything,
                                            apply: () => anything, construct: () => anything});
window.google = {charts: {load() {}, setOnLoadCallback(call) { setTimeout(call, 0) }}, visualization: anything};
"""

# Chooses the view named in the address's fragment, as a user would.
CHOOSE = """<script>
const timer = setInterval(() => {
  const wanted = location.hash.slice(1), views = ['Overview', 'Operator', 'Trace'];
  const option = [...document.querySelectorAll('li[role=option]')].find(e => e.textContent.trim() === wanted);
  if (option) { option.click(); clearInterval(timer); return }
  const box = [...document.querySelectorAll('[aria-haspopup=listbox]')].find(e => views.includes(e.textContent.trim()));
  if (box) box.dispatchEvent(new MouseEvent('mousedown', {bubbles: true, button: 0}));
}, 300)</script></body>"""


@pytest.fixture
def tensorboard(tmp_path) -> Iterator[str]:
    """The address of TensorBoard on ``tmp_path``, whose pages find what they would load from the internet."""
    pytest.importorskip("torch_tb_profiler")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "0", "--host", "127.0.0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    found = None
    for line in process.stderr:
        found = re.search(r"at (http://127.0.0.1:\d+)/", line)
        if found:
            break
    assert found is not None, "TensorBoard did not start"
    threading.Thread(target=process.stderr.read, daemon=True).start()  # it would stop at a full pipe
    server = ThreadingHTTPServer(("127.0.0.1", 0), _between(found[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        process.terminate()
        process.wait()
        process.stderr.close()


def _between(address: str) -> type[BaseHTTPRequestHandler]:
    class Between(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/charts.js":
                self._answer("application/javascript", CHARTS.encode())
                return
            try:
                with urllib.request.urlopen(address + self.path) as response:
                    body, kind = response.read(), response.headers.get("Content-Type", "")
                    if response.headers.get("Content-Encoding") == "gzip":
                        body = gzip.decompress(body)
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            if self.path.endswith("/index.html"):
                body = body.replace(b"https://www.gstatic.com/charts/loader.js", b"/charts.js")
                body = body.replace(b"</body>", CHOOSE.encode())
            self._answer(kind, body)

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Between


def shown(address: str, profile: Any) -> str:
    """The text of a page once its scripts have run."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
        "--virtual-time-budget=40000", "--dump-dom", address,
    ]  # fmt: skip
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", page))


def test_the_operators_of_a_trace_are_listed(quiet, tmp_path, tensorboard, tmp_path_factory):
    quiet({"pytorch": {"dirpath": tmp_path / "digits"}}).fit(TinyModule(), DataLoader(RandomData(32), batch_size=4))
    runs = ""
    while "digits" not in runs or '"loading": true' in runs:  # it looks for new runs every few seconds
        with urllib.request.urlopen(f"{tensorboard}/data/plugin/pytorch_profiler/runs") as response:
            runs = response.read().decode()
        threading.Event().wait(0.2)
    text = shown(f"{tensorboard}/data/plugin/pytorch_profiler/index.html#Operator", tmp_path_factory.mktemp("chromium"))
    assert "Operator View" in text
    assert "digits" in text
    assert "aten::addmm" in text
