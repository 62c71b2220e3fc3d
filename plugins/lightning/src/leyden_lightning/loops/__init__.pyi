"""Lightning's ``loops``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

DataLoaderLoop: Any
EvaluationEpochLoop: Any
EvaluationLoop: Any
FitLoop: Any
Loop: Any
ManualOptimization: Any
OptimizerLoop: Any
PredictionEpochLoop: Any
PredictionLoop: Any
TrainingBatchLoop: Any
TrainingEpochLoop: Any
