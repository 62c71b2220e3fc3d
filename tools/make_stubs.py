"""Writes the stub files of leyden_lightning's submodules, which are made when imported, for mypy and pyright.

``make stubs`` runs this; a test compares. Names that say only that the port has no such part are ``Any``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1] / "plugins/lightning/src/leyden_lightning"


def stubs() -> dict[Path, str]:
    """The text of each stub file, by its path."""
    from leyden_lightning.api import surface

    paths = [path for path in surface.PATHS if path]
    packages = {inner.rpartition(".")[0] for inner in paths}
    found = {}
    for path in paths:
        file = ROOT.joinpath(*path.split("."))
        file = file / "__init__.pyi" if path in packages else file.with_suffix(".pyi")
        found[file] = _stub(path, surface.PATHS[path])
    for package in packages - set(paths) - {""}:
        found[ROOT.joinpath(*package.split("."), "__init__.pyi")] = _stub(package, ())
    return found


def _stub(path: str, names: Any) -> str:
    from leyden_lightning.api import resolution, surface

    imports: set[str] = set()
    values: list[str] = []
    for name in sorted(names):
        value: Any = resolution.resolve(name) if name in surface.NAMES else None
        module, qualified = _where(name, value, surface.NAMES.get(name, " "))
        if module is None:
            values.append(f"{name}: Any")
        else:
            same = qualified == name
            imports.add(f"from {module} import {qualified} as {name if same else '_' + qualified}")
            if not same:  # a stub exports only what keeps its name
                values.append(f"{name} = _{qualified}")
    lines = [f'"""Lightning\'s ``{path}``, for type checkers; written by tools/make_stubs.py."""', ""]
    if any(value.endswith(": Any") for value in values):
        imports.add("from typing import Any")
    lines += sorted(imports)
    lines += ["", *values] if values else []
    return "\n".join(lines).rstrip() + "\n"


def _where(name: str, value: Any, target: str) -> tuple[str | None, str]:
    if " " in target:
        return None, name
    if "/" not in target:
        module, _, attribute = target.partition(":")
        if module.startswith("leyden_lightning") and isinstance(value, type) and value.__module__.startswith("leyden."):
            return value.__module__, value.__name__
        return module, attribute or name
    module = getattr(value, "__module__", None)
    if not isinstance(value, type) or module is None or module.startswith("leyden_lightning"):
        return None, name
    return module, value.__name__


def main() -> None:
    """Writes them, and removes what the table no longer has."""
    for file in set(ROOT.rglob("*.pyi")) - set(stubs()):
        file.unlink()
    for file, text in stubs().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    print(len(stubs()), "stubs", file=sys.stderr)


if __name__ == "__main__":
    main()
