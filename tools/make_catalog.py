"""Writes core/src/leyden/catalog.json: which of our distributions brings which name, from their pyproject files.

Core reads it to say what to install when a name is not there. ``make catalog`` runs this; a test compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
CATALOG = ROOT / "core/src/leyden/catalog.json"
_SHARDED = (
    "fsdp fsdp2 fsdp_cpu_offload fully_sharded_data_parallel model_parallel deepspeed deepspeed_stage_1 deepspeed_stage_2 "
    "deepspeed_stage_2_offload deepspeed_stage_3 deepspeed_stage_3_offload deepspeed_stage_3_offload_nvme ddp_sharded"
)
_XLA = "xla xla_debug xla_fsdp xla_spawn single_xla single_tpu single_device_xla tpu tpu_spawn tpu_spawn_debug"
TO_COME = {
    "leyden.accelerators": {"tpu": "leyden-xla", "xla": "leyden-xla"},
    "leyden.strategies": {
        **dict.fromkeys(_SHARDED.split(), "a later leyden-strategies"),
        **dict.fromkeys(_XLA.split(), "leyden-xla"),
    },
}
"""Names that people ask for, by group, and the distribution that will bring them."""


def projects() -> list[Path]:
    """The pyproject files of our distributions, the one that stands for all of them left out."""
    return sorted([*ROOT.glob("*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")])


def catalog() -> str:
    """The catalog as text: ``{group: {name: distribution}}``."""
    found: dict[str, dict[str, str]] = {}
    for path in projects():
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for group, entry_points in project.get("entry-points", {}).items():
            if group == "leyden" or group.startswith("leyden."):
                found.setdefault(group, {}).update(dict.fromkeys(entry_points, project["name"]))
    for group, names in TO_COME.items():
        found[f"{group} to come"] = names
    return json.dumps(found, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    CATALOG.write_text(catalog(), encoding="utf-8")
