"""TensorBoard's own page, in a browser, shows what a run logged."""

from __future__ import annotations

import gzip
import html
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from leyden import Trainer
from leyden.testing import TinyModule

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")

# Most of the page lies in shadow trees, which --dump-dom leaves out: their text is put where it can be seen.
COLLECT = b"""<script>
const text = node => [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes].map(child =>
  child.nodeType === Node.TEXT_NODE ? child.textContent :
  ['SCRIPT', 'STYLE'].includes(child.nodeName) ? '' : text(child)).join(' ');
setInterval(() => document.documentElement.setAttribute('data-seen', text(document.body).replace(/\\s+/g, ' ')), 500);
</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of TensorBoard on a run's directory."""
    root = tmp_path_factory.mktemp("logs")
    module = TinyModule(lr=0.125)
    module.example_input_array = torch.ones(2, 8)
    Trainer(
        logger={"tensorboard": {"log_graph": True}}, default_root_dir=root, accelerator="cpu", max_epochs=2, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    ).fit(module)  # fmt: skip
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(root / "leyden_logs"), "--port", "0", "--host",
               "127.0.0.1"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    found = None
    for line in process.stderr:
        found = re.search(r"at (http://127.0.0.1:\d+)/", line)
        if found:
            break
    assert found is not None, "TensorBoard did not start"
    threading.Thread(target=process.stderr.read, daemon=True).start()  # it would stop at a full pipe
    server = ThreadingHTTPServer(("127.0.0.1", 0), between(found[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while b"version_0" not in urllib.request.urlopen(f"{found[1]}/data/runs").read():
        threading.Event().wait(0.2)  # it reads the directory behind its back
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        process.terminate()
        process.wait()
        process.stderr.close()


def between(address):
    class Between(BaseHTTPRequestHandler):
        def do_GET(self):
            self.pass_on(None)

        def do_POST(self):
            self.pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def pass_on(self, body):
            headers = {"Content-Type": self.headers["Content-Type"]} if self.headers.get("Content-Type") else {}
            try:
                with urllib.request.urlopen(urllib.request.Request(address + self.path, body, headers)) as response:
                    found, kind = response.read(), response.headers.get("Content-Type", "")
                    if response.headers.get("Content-Encoding") == "gzip":
                        found = gzip.decompress(found)
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            if self.path in ("/", "/index.html"):
                found = found.replace(b"</body>", COLLECT)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, format, *args):
            pass

    return Between


def seen(address, profile):
    """The text of a page once its scripts have run."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}", "--window-size=1600,2000",
        "--virtual-time-budget=20000", "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = re.search(r'data-seen="([^"]*)"', done)
    assert found is not None, "the page did not run its scripts"
    return html.unescape(found[1])


@pytest.mark.parametrize(
    ("tab", "wanted"),
    [
        ("scalars", ["train_loss", "val_loss", "val_acc", "hp_metric", "version_0"]),
        ("graphs", ["TinyModule"]),
        ("hparams", ["lr", "0.125", "hp_metric", "-1.0000", "version_0"]),
    ],
)
def test_the_page_shows_the_runs(tab, wanted, page, tmp_path_factory):
    text = seen(f"{page}/#{tab}", tmp_path_factory.mktemp("chromium"))
    assert [word for word in wanted if word not in text] == [], text
