"""The PyTorch Profiler page of TensorBoard, in a browser, shows a trace of ours."""

from __future__ import annotations

import re
import threading
import urllib.request

import pytest
from leyden import Trainer
from leyden.testing import RandomData, TinyModule
from torch.utils.data import DataLoader

# The page loads Google Charts from the internet; the tests have none, and need only the tables the page draws itself.
CHARTS = b"""<script>
const anything = new Proxy(function () {}, {get: (_, key) => key === 'then' ? undefined : anything,
                                            apply: () => anything, construct: () => anything});
window.google = {charts: {load() {}, setOnLoadCallback(call) { setTimeout(call, 0) }}, visualization: anything};
</script>"""

# Chooses the view named in the address's fragment, as a user would.
CHOOSE = b"""<script>
const timer = setInterval(() => {
  const wanted = location.hash.slice(1), views = ['Overview', 'Operator', 'Trace'];
  const option = [...document.querySelectorAll('li[role=option]')].find(e => e.textContent.trim() === wanted);
  if (option) { option.click(); clearInterval(timer); return }
  const box = [...document.querySelectorAll('[aria-haspopup=listbox]')].find(e => views.includes(e.textContent.trim()));
  if (box) box.dispatchEvent(new MouseEvent('mousedown', {bubbles: true, button: 0}));
}, 300)</script></body>"""


def choosing(path, body):
    if not path.endswith("/index.html"):
        return body
    body = re.sub(rb"<script[^>]*https://www.gstatic.com/charts/loader.js[^>]*></script>", CHARTS, body)
    return body.replace(b"</body>", CHOOSE)


def test_the_operators_of_a_trace_are_listed(document, tensorboard, tmp_path):
    pytest.importorskip("torch_tb_profiler")
    Trainer(
        profiler={"pytorch": {"dirpath": tmp_path / "digits"}}, accelerator="cpu", max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=2,
    ).fit(TinyModule(), DataLoader(RandomData(32), batch_size=4))  # fmt: skip
    with tensorboard(tmp_path, choosing) as address:
        runs = ""
        while "digits" not in runs or '"loading": true' in runs:  # it looks for new runs every few seconds
            with urllib.request.urlopen(f"{address}/data/plugin/pytorch_profiler/runs") as response:
                runs = response.read().decode()
            threading.Event().wait(0.2)
        page = document(f"{address}/data/plugin/pytorch_profiler/index.html#Operator")
    text = re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", page))
    assert "Operator View" in text
    assert "digits" in text
    assert "aten::addmm" in text
