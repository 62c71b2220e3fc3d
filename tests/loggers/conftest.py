"""What tests of several loggers start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from leyden_loggers import MLflowLogger


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store of MLflow's, whose tables take seconds to make."""
    logger = MLflowLogger(save_dir=tmp_path_factory.mktemp("mlflow"))
    logger.log_hyperparams({})
    logger.experiment.delete_run(logger.version)
    return Path(logger.save_dir, "mlflow.db")
