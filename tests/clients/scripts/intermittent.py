"""Forecasting of many series: GluonTS' DeepAR and a simple feed-forward estimator."""

import json
import warnings

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from gluonts.dataset.common import ListDataset
from gluonts.torch import DeepAREstimator, SimpleFeedForwardEstimator

warnings.filterwarnings("ignore")
series = [10 + i + 3 * np.sin(np.arange(60) / 4 + i) for i in range(4)]
data = ListDataset([{"start": pd.Period("2024-01-01", "D"), "target": s} for s in series], freq="D")


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.values.append(trainer.callback_metrics["train_loss"].item())


def run(make):
    pl.seed_everything(2)
    np.random.seed(2)
    losses = Losses()
    estimator = make(
        dict(
            max_epochs=4,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            callbacks=[losses],
        )
    )
    predictor = estimator.train(data, validation_data=data)
    torch.manual_seed(0)
    forecasts = list(predictor.predict(data))
    return dict(
        losses=losses.values,
        forecasts=len(forecasts),
        mean=float(np.mean([f.mean for f in forecasts])),
        length=int(forecasts[0].prediction_length),
        parameters=sum(p.double().abs().sum().item() for p in predictor.prediction_net.parameters()),
    )


print(
    json.dumps(
        {
            "deepar": run(
                lambda kw: DeepAREstimator(
                    freq="D",
                    prediction_length=5,
                    context_length=10,
                    hidden_size=8,
                    num_layers=1,
                    num_batches_per_epoch=8,
                    batch_size=8,
                    lr=1e-2,
                    num_parallel_samples=10,
                    trainer_kwargs=kw,
                )
            ),
            "feedforward": run(
                lambda kw: SimpleFeedForwardEstimator(
                    prediction_length=5,
                    context_length=10,
                    hidden_dimensions=[8],
                    num_batches_per_epoch=8,
                    batch_size=8,
                    lr=1e-2,
                    trainer_kwargs=kw,
                )
            ),
        }
    )
)
