"""Every message that the loggers say unasked, by its id."""

from __future__ import annotations

IDS: dict[str, str] = {
    "LYL01": "The file of a run's values was deleted while the run wrote to it, and was made again.",
    "LYL02": "The file of a run's values ended in the middle of a row, which was taken out.",
    "LYL03": "A run's directory was deleted while the run wrote to it, and was made again.",
    "LYL04": "No graph is drawn, for the module has no example input.",
    "LYL05": "A key has characters that MLflow does not take, and is logged under another one.",
    "LYL06": "A hyperparameter has changed, and MLflow keeps the first value of a run.",
    "LYL07": "Something else, such as another run of the same version, writes to the file of a run's values.",
    "LYL08": "A metric has a key that Weights & Biases keeps for itself, and is logged under another one.",
}
