"""TensorBoard's own page, in a browser, shows what a run logged."""

from __future__ import annotations

import html
import re
import threading
import urllib.request

import pytest
import torch
from leyden import Trainer
from leyden.testing import TinyModule

# Most of the page lies in shadow trees, which --dump-dom leaves out: their text is put where it can be seen.
COLLECT = b"""<script>
const text = node => [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes].map(child =>
  child.nodeType === Node.TEXT_NODE ? child.textContent :
  ['SCRIPT', 'STYLE'].includes(child.nodeName) ? '' : text(child)).join(' ');
setInterval(() => document.documentElement.setAttribute('data-seen', text(document.body).replace(/\\s+/g, ' ')), 500);
</script></body>"""


def collecting(path, body):
    return body.replace(b"</body>", COLLECT) if path in ("/", "/index.html") else body


@pytest.fixture(scope="module")
def page(tensorboard, tmp_path_factory):
    """The address of TensorBoard on a run's directory."""
    root = tmp_path_factory.mktemp("logs")
    module = TinyModule(lr=0.125)
    module.example_input_array = torch.ones(2, 8)
    Trainer(
        logger={"tensorboard": {"log_graph": True}}, default_root_dir=root, accelerator="cpu", max_epochs=2, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    ).fit(module)  # fmt: skip
    with tensorboard(root / "leyden_logs", collecting) as address:
        while b"version_0" not in urllib.request.urlopen(f"{address}/data/runs").read():
            threading.Event().wait(0.2)  # it reads the directory behind its back
        yield address


@pytest.mark.parametrize(
    ("tab", "wanted"),
    [
        ("scalars", ["train_loss", "val_loss", "val_acc", "hp_metric", "version_0"]),
        ("graphs", ["TinyModule"]),
        ("hparams", ["lr", "0.125", "hp_metric", "-1.0000", "version_0"]),
    ],
)
def test_the_page_shows_the_runs(tab, wanted, document, page):
    found = re.search(r'data-seen="([^"]*)"', document(f"{page}/#{tab}"))
    assert found is not None, "the page did not run its scripts"
    text = html.unescape(found[1])
    assert [word for word in wanted if word not in text] == [], text
