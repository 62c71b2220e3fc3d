"""Module.to_onnx, to_torchscript and to_torch_export: what is in the file, and what stays as it was."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import leyden
import pytest
import torch
from leyden.testing import TinyModule
from torch import Tensor, nn

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
ALL = ["to_onnx", "to_torchscript", "to_torch_export"]


class Dropping(TinyModule):
    """Differs between train and eval mode, has a part that is frozen in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(8).eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(self.dropout(self.frozen(x)))
        return logits


class TwoInputs(TinyModule):
    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        logits: Tensor = self.layer(x) * scale
        return logits


def expected(module: TinyModule, *inputs: Tensor) -> Tensor:
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    with torch.no_grad():
        result: Tensor = module(*inputs)
    for child, training in modes:
        child.training = training
    return result


def run_onnx(path: Any, **inputs: Tensor) -> Tensor:
    reference = pytest.importorskip("onnx.reference")
    session = reference.ReferenceEvaluator(str(path))
    return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])


@pytest.fixture
def needs_onnx() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")


def skip_without_onnx(method: str) -> None:
    if method == "to_onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")


# ---- files ----


def test_an_onnx_file_computes_what_forward_does(needs_onnx, tmp_path):
    module, x = Dropping(), torch.randn(2, 8)
    module.to_onnx(tmp_path / "made" / "a.onnx", x)
    torch.testing.assert_close(run_onnx(tmp_path / "made" / "a.onnx", x=x), expected(module, x))


def test_an_onnx_program_is_returned_where_no_file_is_asked_for(needs_onnx, tmp_path, monkeypatch):
    x = torch.randn(2, 8)
    module = Dropping()
    program = module.to_onnx(input_sample=x)
    assert list(tmp_path.iterdir()) == []
    torch.testing.assert_close(program(x)[0] if _has_runtime() else program.exported_program.module()(x), expected(module, x))


def _has_runtime() -> bool:
    from importlib.util import find_spec

    return find_spec("onnxruntime") is not None


def test_options_reach_torch_onnx(needs_onnx, tmp_path):
    module = TinyModule()
    batch = torch.export.Dim("batch")
    module.to_onnx(tmp_path / "a.onnx", torch.randn(2, 8), dynamic_shapes={"x": {0: batch}}, input_names=["features"])
    x = torch.randn(5, 8)
    torch.testing.assert_close(run_onnx(tmp_path / "a.onnx", features=x), expected(module, x))


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("method", ["script", "trace"])
def test_a_torchscript_file_computes_what_forward_does(tmp_path, method):
    module, x = Dropping(), torch.randn(2, 8)
    returned = module.to_torchscript(tmp_path / "made" / "a.pt", method, x)
    loaded = torch.jit.load(tmp_path / "made" / "a.pt")
    assert torch.equal(loaded(x), expected(module, x))
    assert torch.equal(returned(x), expected(module, x))
    assert not loaded.training


def test_scripting_needs_no_input():
    assert torch.equal(TinyModule().to_torchscript()(torch.zeros(1, 8)).isnan(), torch.zeros(1, 2, dtype=torch.bool))


def test_an_exported_program_computes_what_forward_does(tmp_path):
    module, x = Dropping(), torch.randn(2, 8)
    returned = module.to_torch_export(tmp_path / "made" / "a.pt2", x)
    loaded = torch.export.load(tmp_path / "made" / "a.pt2")
    assert torch.equal(loaded.module()(x), expected(module, x))
    assert torch.equal(returned.module()(x), expected(module, x))


def test_dynamic_shapes_let_an_exported_program_take_other_batches():
    module, x = TinyModule(), torch.randn(5, 8)
    program = module.to_torch_export(input_sample=torch.randn(2, 8), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    assert torch.equal(program.module()(x), expected(module, x))


# ---- inputs ----


@pytest.mark.parametrize("kind", ["tuple", "dict"])
@pytest.mark.parametrize("method", ALL)
def test_several_arguments_are_a_tuple_or_a_dict(method, kind):
    skip_without_onnx(method)
    module, x, scale = TwoInputs(), torch.randn(2, 8), torch.tensor(3.0)
    inputs: Any = (x, scale) if kind == "tuple" else {"x": x, "scale": scale}
    options = {"method": "trace", "example_inputs": inputs} if method == "to_torchscript" else {"input_sample": inputs}
    result = getattr(module, method)(**options)
    if method == "to_torchscript":
        assert torch.equal(result(x, scale), expected(module, x, scale))
    else:
        program = result.exported_program if method == "to_onnx" else result
        called = program.module()(x, scale) if kind == "tuple" else program.module()(x=x, scale=scale)
        torch.testing.assert_close(called, expected(module, x, scale))


@pytest.mark.parametrize("method", ALL)
def test_example_input_array_is_the_default(method):
    skip_without_onnx(method)
    module = TinyModule()
    module.example_input_array = torch.randn(2, 8)
    assert getattr(module, method)(**({"method": "trace"} if method == "to_torchscript" else {})) is not None


# ---- what stays as it was ----


@pytest.mark.parametrize("method", ALL)
def test_modes_and_the_trainer_are_put_back(method):
    skip_without_onnx(method)
    module = Dropping()
    trainer = leyden.Trainer(**QUIET, accelerator="cpu", max_epochs=1)
    trainer.fit(module)
    module.train()
    module.frozen.eval()
    module.example_input_array = torch.randn(2, 8)
    getattr(module, method)()
    assert [child.training for child in (module, module.layer, module.dropout, module.frozen)] == [True, True, True, False]
    assert module.trainer is trainer


def test_modes_and_the_trainer_are_put_back_after_a_failure():
    class Failing(Dropping):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no more")

    module = Failing()
    trainer = leyden.Trainer(**QUIET, accelerator="cpu", max_epochs=1)
    module.trainer = trainer
    with pytest.raises(RuntimeError, match="no more"):
        module.to_torch_export(input_sample=torch.randn(2, 8))
    assert module.dropout.training
    assert module.trainer is trainer


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("method", ["script", "trace"])
def test_nothing_of_the_run_is_in_a_torchscript_file(tmp_path, method):
    module = Dropping()
    leyden.Trainer(**QUIET, accelerator="cpu", max_epochs=1).fit(module)
    module.example_input_array = torch.randn(2, 8)
    returned = module.to_torchscript(tmp_path / "a.pt", method)
    assert not isinstance(getattr(returned, "_trainer", None), leyden.Trainer)
    loaded = torch.jit.load(tmp_path / "a.pt")
    assert [name for name in ("trainer", "_trainer", "example_input_array", "hparams") if hasattr(loaded, name)] == []


def test_a_module_can_be_exported_while_it_trains(tmp_path):
    class Exporting(TinyModule):
        def on_train_epoch_end(self) -> None:
            self.to_torch_export(tmp_path / "a.pt2", torch.randn(2, 8))

    module = Exporting()
    leyden.Trainer(**QUIET, accelerator="cpu", max_epochs=1).fit(module)
    x = torch.randn(2, 8)
    assert torch.equal(torch.export.load(tmp_path / "a.pt2").module()(x), expected(module, x))


def test_every_property_of_a_module_is_left_alone_by_torchscript():
    properties = {name for cls in leyden.Module.__mro__ for name, value in vars(cls).items() if isinstance(value, property)}
    assert set(leyden.Module.__jit_unused_properties__) == properties


# ---- errors ----


@pytest.mark.parametrize(
    ("method", "options", "argument"),
    [("to_onnx", {}, "input_sample"), ("to_torchscript", {"method": "trace"}, "example_inputs"),
     ("to_torch_export", {}, "input_sample")],
)  # fmt: skip
def test_a_missing_input_is_asked_for(method, options, argument):
    skip_without_onnx(method)
    with pytest.raises(ValueError) as caught:
        getattr(TinyModule(), method)(**options)
    assert str(caught.value) == (
        f"TinyModule.{method}() needs an input to follow through forward(); pass {argument}=..., or set "
        f"TinyModule.example_input_array"
    )


@pytest.mark.parametrize("method", ALL)
def test_a_missing_forward_is_asked_for(method):
    class Headless(leyden.Module):
        pass

    skip_without_onnx(method)
    with pytest.raises(ValueError) as caught:
        getattr(Headless(), method)()
    assert str(caught.value) == f"Headless.{method}() needs Headless.forward(), which is not defined"


@pytest.mark.parametrize("method", ALL)
def test_a_url_is_refused(method):
    skip_without_onnx(method)
    with pytest.raises(ValueError) as caught:
        getattr(TinyModule(), method)("s3://bucket/a.onnx")
    assert str(caught.value) == (
        f"TinyModule.{method}(file_path='s3://bucket/a.onnx'): torch writes local files only; copy it from there"
    )


def test_a_missing_onnx_says_what_to_install(monkeypatch):
    monkeypatch.setattr("leyden.export.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        TinyModule().to_onnx(input_sample=torch.randn(1, 8))
    assert str(caught.value) == (
        "TinyModule.to_onnx() needs onnx and onnxscript, which torch does not bring; run: pip install onnx onnxscript"
    )


def test_an_unknown_torchscript_method_is_refused():
    with pytest.raises(ValueError) as caught:
        TinyModule().to_torchscript(method="scripts")
    assert str(caught.value) == (
        "TinyModule.to_torchscript(method='scripts'): expected 'script', 'trace'; did you mean 'script'?"
    )


def test_torch_logs_nothing_of_its_own_while_it_exports(needs_onnx, tmp_path):
    """In a process of its own: torch says such things once, when it is first used."""
    script = (
        "import torch\nfrom leyden.testing import TinyModule\n"
        f"TinyModule().to_onnx({str(tmp_path / 'a.onnx')!r}, torch.zeros(2, 8))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
