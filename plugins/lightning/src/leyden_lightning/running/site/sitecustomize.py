"""Runs at the start of each process that a script under the port starts: Lightning's names mean the port there too."""

import importlib.util
import sys
from pathlib import Path

_HERE = Path(__file__).resolve()


def _load(name: str, path: Path) -> object:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_load("leyden_lightning_aliases", _HERE.parents[1] / "aliases.py").install()  # type: ignore[attr-defined]  # see there

# The one that this stands before on the path, if there is one.
for _folder in sys.path:
    _other = Path(_folder or ".") / "sitecustomize.py"
    if _other.is_file() and _other.resolve() != _HERE:
        _load("sitecustomize", _other)
        break
