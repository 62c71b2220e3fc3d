"""Every message that core says unasked, by its id; ``docs/messages.md`` is made of this and of the plug-ins' own tables."""

from __future__ import annotations

IDS: dict[str, str] = {
    "LY001": "A method looks like a hook and is never called, for there is no such hook.",
    "LY002": "A method of a module or a data module is almost one that leyden calls, and is never called.",
    "LY003": "A training loader gives fewer batches than it says it has.",
    "LY004": "An epoch trained on no batch.",
    "LY005": "A module that was in eval mode is trained in train mode.",
    "LY006": "Neither max_epochs nor max_steps is given, so that the default limit holds.",
    "LY007": "An evaluation was given neither a module nor a checkpoint, and uses the best checkpoint of the last fit.",
    "LY008": "A signal came, Ctrl-C or SIGTERM; the run stops after the running batch.",
    "LY009": "A run waits for a loader's workers.",
    "LY010": "Hyperparameters, or what a hook added, that are not plain data are not in a checkpoint.",
    "LY011": "A plug-in is broken and left out.",
    "LY012": "A plug-in cannot say whether its device is on this machine, and is left out.",
    "LY013": "Weights that were loaded and a module differ, which strict=False lets pass.",
    "LY014": "A cluster environment is there and cannot be used.",
    "LY015": "A signal ends the run, and where the state is that was saved.",
    "LY016": "The newest checkpoint is damaged, and an older one is gone on from.",
    "LY017": "What auto_resume goes on from.",
    "LY018": "A checkpoint file is whole, but another one than was saved under its name.",
    "LY019": "A logger or a callback failed, and the run goes on without it.",
    "LY020": "Which loggers and callbacks a run was without at its end.",
    "LY030": "The workers of a loader each give the same samples.",
    "LY031": "A loader cannot start in the middle of an epoch, so that batches are read and passed over.",
    "LY032": "A metric that is logged is no attribute of the module, so that its state is not in checkpoints.",
    "LY033": "A checkpoint is of another number of processes, so that some of its state is left out.",
    "LY034": "A checkpoint was taken when a batch failed in the middle of its step.",
    "LY035": "A checkpoint is of a run that is at its limit, so that nothing is trained.",
    "LY036": "A loader of which each process reads everything, for its samples cannot be dealt out.",
}
