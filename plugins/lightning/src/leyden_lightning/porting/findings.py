"""Reads a source file and finds every construct of Lightning that leyden calls otherwise, with its place."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import libcst as cst
from leyden.binding import FORMER
from libcst.metadata import MetadataWrapper, PositionProvider

import leyden_lightning
from leyden_lightning.api.exceptions import MisconfigurationException
from leyden_lightning.api.modules import hint
from leyden_lightning.api.surface import NAMES, PATHS
from leyden_lightning.api.tools import availability
from leyden_lightning.legacy import arguments
from leyden_lightning.legacy.hooks import INSTEAD

_PACKAGES = {
    "pytorch_lightning": "leyden_lightning",
    "lightning": "leyden_lightning",
    "lightning_fabric": "leyden_lightning.fabric",
}
_METHODS = {
    **FORMER,
    **{name: f"write {instead}" for name, instead in INSTEAD.items()},
}
_CALLS = {
    "manual_optimizer_step": "optimizer.step(); optimizer.zero_grad()",
    "tune": "Tuner(trainer).lr_find(model), and Tuner(trainer).scale_batch_size(model)",
}
_PARAMETERS = {
    "on_train_epoch_end": (
        "outputs",
        "on_train_epoch_end without outputs, and keep what it needs of each batch in training_step",
    ),
    "on_train_batch_start": ("dataloader_idx", "on_train_batch_start without dataloader_idx"),
    "on_train_batch_end": ("dataloader_idx", "on_train_batch_end without dataloader_idx"),
}
_BY_VALUE = (
    "tpu_cores", "num_tpu_cores", "ipus", "process_position", "amp_level", "amp_backend", "strategy", "accelerator",
    "distributed_backend",
)  # fmt: skip
"""Arguments of which some values run and others do not."""
_LOADERS = {
    ("fit", "train_dataloader"): "train_dataloaders",
    ("validate", "val_dataloaders"): "dataloaders",
    ("test", "test_dataloaders"): "dataloaders",
}


@dataclass(frozen=True)
class Finding:
    """One construct."""

    path: str
    line: int
    what: str
    runs: bool
    """Whether it runs under the port as it is."""

    instead: str
    """What to write."""

    rewritten: bool = False
    """Whether ``--write`` changes it."""


class _Rewriter(cst.CSTTransformer):
    """Collects findings, and makes the changes that need no thought."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.findings: list[Finding] = []
        self.bound: dict[str, str] = {}
        """The names that stand for a module of Lightning's, with the path of the port's below its root."""

    def note(self, node: cst.CSTNode, what: str, instead: str, *, runs: bool = True, rewritten: bool = False) -> None:
        position: Any = self.get_metadata(PositionProvider, node)
        self.findings.append(Finding(self.path, position.start.line, what, runs, instead, rewritten))

    # ---- imports ----

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> cst.BaseSmallStatement:  # libcst's
        """``import pytorch_lightning as pl``, and ``import pytorch_lightning`` under its old name."""
        names = []
        for alias in updated_node.names:
            dotted = _dotted(alias.name)
            port = _port(dotted)
            if self._is_missing(original_node, dotted, port) or port is None:
                names.append(alias)
                continue
            if alias.asname is not None or "." not in dotted:
                self.bound[_dotted(alias.asname.name) if alias.asname is not None else dotted] = port.partition(".")[2]
            root = dotted.partition(".")[0]
            if alias.asname is None and root != dotted and root != "lightning":
                dotted, port = root, _PACKAGES[root]  # what the statement binds; submodules are there without an import
            if alias.asname is None and "." in dotted:
                self.note(original_node, f"import {dotted}", f"import {port}, and use it by that name")
                names.append(alias)
                continue
            asname = alias.asname or cst.AsName(cst.Name(dotted))
            self.note(original_node, f"import {dotted}", f"import {port}", rewritten=True)
            names.append(alias.with_changes(name=_expression(port), asname=_spaced(asname)))
        return updated_node.with_changes(names=names)

    def leave_ImportFrom(self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom) -> cst.BaseSmallStatement:  # libcst's
        """``from pytorch_lightning.callbacks import ModelCheckpoint``."""
        if updated_node.module is None or updated_node.relative:
            return updated_node
        dotted = _dotted(updated_node.module)
        port = _port(dotted)
        if self._is_missing(original_node, dotted, port) or port is None:
            return updated_node
        if not isinstance(updated_node.names, cst.ImportStar):
            for alias in updated_node.names:
                name = alias.evaluated_name
                lacks = _lacks(port.partition(".")[2], name)
                if lacks:
                    self.note(original_node, f"from {dotted} import {name}", lacks, runs=False)
        self.note(original_node, f"from {dotted} import ...", f"from {port} import ...", rewritten=True)
        return updated_node.with_changes(module=_expression(port))

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.Attribute:  # libcst's
        """``pl.LightningCLI``, of a module that was imported."""
        name, *inner = _dotted(original_node).split(".")
        if name in self.bound and inner != ["pytorch"] and inner:
            parts = inner[1:] if inner[0] == "pytorch" else inner  # `import lightning as L` has L.pytorch
            path = ".".join(part for part in (self.bound[name], *parts[:-1]) if part)
            lacks = _lacks(path, parts[-1]) if not path or path in PATHS else ""
            if lacks:
                self.note(original_node, f"{name}.{'.'.join(inner)}", lacks, runs=False)
        return updated_node

    def _is_missing(self, node: cst.CSTNode, dotted: str, port: str | None) -> bool:
        """Whether an imported module is one that Lightning had and the port has not; then it is noted."""
        root, _, rest = dotted.partition(".")
        if root not in _PACKAGES:
            return False
        path = rest if port is None else port.partition(".")[2]
        parts = path.split(".") if path else []
        for position, part in enumerate(parts):
            parent = ".".join(parts[:position])
            if ".".join(parts[: position + 1]) not in PATHS:
                instead = hint(parent, part).removeprefix(": ").removeprefix("; ")
                self.note(node, f"import of {dotted}", instead, runs=False)
                return True
        return False

    # ---- the Trainer and its methods ----

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # libcst's
        """Arguments of old of ``Trainer(...)`` and of its methods."""
        name = _called(updated_node)
        if name == "Trainer":
            return updated_node.with_changes(args=[self._trainer_argument(original_node, arg) for arg in updated_node.args])
        if name == "from_argparse_args" and _last_name(updated_node.func, 1) == "Trainer":
            given = [self._trainer_argument(original_node, arg) if arg.keyword else arg for arg in updated_node.args]
            return updated_node.with_changes(args=given)
        if name in _CALLS and isinstance(updated_node.func, cst.Attribute):
            self.note(original_node, f"{name}()", _CALLS[name])
        if name == "manual_backward" and len(updated_node.args) > 1:
            self.note(original_node, "manual_backward(loss, optimizer)", "manual_backward(loss)")
        args = []
        for arg in updated_node.args:
            keyword = arg.keyword.value if arg.keyword else ""
            new = _LOADERS.get((name, keyword))
            if new is not None and isinstance(updated_node.func, cst.Attribute):
                self.note(original_node, f"{name}({keyword}=...)", f"{name}({new}=...)", rewritten=True)
                arg = arg.with_changes(keyword=cst.Name(new))
            args.append(arg)
        return updated_node.with_changes(args=args)

    def _trainer_argument(self, call: cst.Call, arg: cst.Arg) -> cst.Arg:
        if arg.keyword is None:
            if not arg.star:
                self.note(call, "Trainer(...) with an argument by position", "its name before it", runs=False)
            return arg
        keyword = arg.keyword.value
        new = arguments.RENAMED.get(keyword)
        if new is not None:
            self.note(call, f"Trainer({keyword}=...)", f"Trainer({new}=...)", rewritten=True)
            return arg.with_changes(keyword=cst.Name(new))
        if keyword in _BY_VALUE and _is_literal(arg.value):
            self._valued_argument(call, keyword, _literal(arg.value))
        elif keyword in arguments.OLD:
            refused = keyword in ("tpu_cores", "num_tpu_cores", "ipus", "process_position", "amp_level")
            self.note(call, f"Trainer({keyword}=...)", arguments.INSTEAD.get(keyword, "see docs/lightning.md"), runs=not refused)
        return arg

    def _valued_argument(self, call: cst.Call, keyword: str, value: Any) -> None:
        what = f"Trainer({keyword}={value!r})"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new = arguments.Translation({keyword: value}).run()
        except MisconfigurationException as error:
            self.note(call, what, str(error).partition("): ")[2], runs=False)
            return
        if new != {keyword: value}:
            text = ", ".join(f"{name}={item!r}" for name, item in new.items())
            self.note(call, what, f"write {text}" if text else "leave it out")

    # ---- methods ----

    def visit_ClassDef_body(self, node: cst.ClassDef) -> None:  # libcst's
        """Hooks and steps of old in a class."""
        for statement in node.body.body:
            if not isinstance(statement, cst.FunctionDef):
                continue
            name = statement.name.value
            parameters = [param.name.value for param in statement.params.params]
            if name in _METHODS:
                self.note(statement, f"{node.name.value}.{name}", _METHODS[name])
            elif name == "training_step" and "hiddens" in parameters:
                self.note(
                    statement, f"{node.name.value}.training_step(..., hiddens)", "manual optimization over the parts of a batch"
                )
            elif name == "training_step" and "optimizer_idx" in parameters:
                instead = "self.automatic_optimization = False, and a step of each of self.optimizers() in training_step"
                self.note(statement, f"{node.name.value}.training_step(..., optimizer_idx)", instead)
            elif name in _PARAMETERS and _PARAMETERS[name][0] in parameters:
                old, instead = _PARAMETERS[name]
                self.note(statement, f"{node.name.value}.{name}(..., {old})", instead)
            elif "optimizer_idx" in parameters:
                self.note(statement, f"{node.name.value}.{name}(..., optimizer_idx)", f"{name} without optimizer_idx")
            elif name == "transfer_batch_to_device" and len(parameters) == 3:
                self.note(statement, f"{node.name.value}.{name}(batch, device)", f"{name}(self, batch, device, dataloader_idx)")


def _dotted(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Attribute):
        return f"{_dotted(node.value)}.{node.attr.value}"
    return node.value if isinstance(node, cst.Name) else ""


def _expression(dotted: str) -> Any:
    return cst.parse_expression(dotted)


def _spaced(asname: cst.AsName) -> cst.AsName:
    return asname.with_changes(whitespace_before_as=cst.SimpleWhitespace(" "), whitespace_after_as=cst.SimpleWhitespace(" "))


def _called(node: cst.Call) -> str:
    return _last_name(node.func, 0)


def _last_name(node: cst.BaseExpression, before: int) -> str:
    """The last name of ``a.b.c``, or the one so many before it; "" if there is none."""
    names = _dotted(node).split(".")
    if len(names) == 1 and isinstance(node, cst.Attribute):
        return ""
    return names[-1 - before] if before < len(names) else ""


def _is_literal(node: cst.BaseExpression) -> bool:
    try:
        _literal(node)
    except (ValueError, SyntaxError):
        return False
    return True


def _literal(node: cst.BaseExpression) -> Any:
    return ast.literal_eval(cst.Module([]).code_for_node(node).strip())


def _lacks(path: str, name: str) -> str:
    """What to write in place of a name that a submodule of the port has not, or has to say a sentence; "" if it is there."""
    target = NAMES.get(name)
    if target is not None:
        return target if " " in target else ""
    inner = f"{path}.{name}" if path else name
    if inner in PATHS or name.startswith("__") or (not path and name in leyden_lightning.__all__):
        return ""
    if availability(name) is not None:
        return ""
    return hint(path, name).removeprefix(": ").removeprefix("; ")


def _port(dotted: str) -> str | None:
    root, _, rest = dotted.partition(".")
    if root not in _PACKAGES:
        return None
    if root == "lightning":
        first, _, inner = rest.partition(".")
        if first == "fabric":
            return ".".join(part for part in ("leyden_lightning.fabric", inner) if part)
        if first not in ("", "pytorch"):
            return None
        rest = inner
    return f"{_PACKAGES[root]}.{rest}" if rest else _PACKAGES[root]


def examine(source: str, path: str = "<source>") -> tuple[list[Finding], str]:
    """What a source has of Lightning, and the source with the changes made that need no thought.

    Args:
        source: Python, of any formatting, which is kept.
        path: for the findings.

    Raises:
        libcst.ParserSyntaxError: it is no Python of today.
    """
    rewriter = _Rewriter(path)
    changed = MetadataWrapper(cst.parse_module(source)).visit(rewriter)
    return sorted(rewriter.findings, key=lambda finding: (finding.line, finding.what)), changed.code


def by_kind(findings: list[Finding]) -> Mapping[str, int]:
    """How many of the findings run as they are, are rewritten, and need a hand."""
    return {
        "findings": len(findings),
        "rewritten": sum(finding.rewritten for finding in findings),
        "do not run": sum(not finding.runs for finding in findings),
    }
