"""Forecasting of many series: GluonTS' DeepAR and a simple feed-forward estimator, on drawn windows and on fixed ones."""

import json
import warnings

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from gluonts.dataset.common import ListDataset
from gluonts.torch import DeepAREstimator, SimpleFeedForwardEstimator
from gluonts.transform.sampler import InstanceSampler

warnings.filterwarnings("ignore")
series = [10 + i + 3 * np.sin(np.arange(60) / 4 + i) for i in range(4)]
data = ListDataset([{"start": pd.Period("2024-01-01", "D"), "target": s} for s in series], freq="D")


class EveryThird(InstanceSampler):
    """Windows that nobody draws: GluonTS' own sampler draws them from numpy in the data set."""

    def __call__(self, ts):
        first, last = self._get_bounds(ts)
        return np.arange(first, last + 1, 3)


class Losses(pl.Callback):
    def __init__(self):
        self.values = []
        self.initial = 0.0

    def on_train_start(self, trainer, pl_module):
        self.initial = sum(p.double().abs().sum().item() for p in pl_module.parameters())

    def on_train_epoch_end(self, trainer, pl_module):
        self.values.append(trainer.callback_metrics["train_loss"].item())


def run(estimator_class, sampler, **options):
    pl.seed_everything(2)
    np.random.seed(2)
    losses = Losses()
    estimator = estimator_class(
        prediction_length=5,
        context_length=10,
        num_batches_per_epoch=8,
        batch_size=8,
        lr=1e-2,
        train_sampler=sampler,
        trainer_kwargs=dict(
            max_epochs=4,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            callbacks=[losses],
        ),
        **options,
    )
    predictor = estimator.train(data, validation_data=data)
    torch.manual_seed(0)
    forecasts = list(predictor.predict(data))
    return dict(
        initial=losses.initial,
        losses=losses.values,
        forecasts=len(forecasts),
        mean=float(np.mean([f.mean for f in forecasts])),
        length=int(forecasts[0].prediction_length),
        parameters=sum(p.double().abs().sum().item() for p in predictor.prediction_net.parameters()),
    )


def both(sampler):
    return {
        "deepar": run(DeepAREstimator, sampler, freq="D", hidden_size=8, num_layers=1, num_parallel_samples=10),
        "feedforward": run(SimpleFeedForwardEstimator, sampler, hidden_dimensions=[8]),
    }


print(json.dumps({"drawn": both(None), "fixed": both(EveryThird(min_past=0, min_future=5))}))
