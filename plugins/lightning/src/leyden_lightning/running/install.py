"""Turns Lightning's names into the port's, in this process and in those that it starts."""

from __future__ import annotations

import os
from pathlib import Path

from leyden_lightning.running import aliases

_SITE = str(Path(__file__).with_name("site"))


def install() -> None:
    """Has ``pytorch_lightning``, ``lightning``, ``lightning_fabric`` and their submodules mean this package.

    Call it before anything imports one of them. Packages that are imported afterwards, and processes that are started
    afterwards, spawned or forked, see the port too. What is installed under these names is not touched.

    Raises:
        RuntimeError: Lightning itself was imported already.
    """
    aliases.install()
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if _SITE not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([_SITE, *paths])


def uninstall() -> None:
    """Undoes :func:`install`; modules that imported from Lightning's names keep what they have."""
    aliases.uninstall()
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != _SITE]
    if paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    else:
        os.environ.pop("PYTHONPATH", None)
