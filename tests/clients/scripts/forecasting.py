"""Forecasting: pytorch-forecasting's Temporal Fusion Transformer, on windows in drawn order and in fixed order."""

import json
import warnings

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from pytorch_forecasting import GroupNormalizer, TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.metrics import QuantileLoss

warnings.filterwarnings("ignore")
steps = np.arange(60)
rows = [
    {"step": step, "series": name, "value": 10 + 5 * number + 3 * np.sin(step / 4 + number), "week": str(step % 7)}
    for number, name in enumerate("abcd")
    for step in steps
]
frame = pd.DataFrame(rows)
training = TimeSeriesDataSet(
    frame[frame.step < 50],
    time_idx="step",
    target="value",
    group_ids=["series"],
    max_encoder_length=12,
    max_prediction_length=5,
    static_categoricals=["series"],
    time_varying_known_categoricals=["week"],
    time_varying_known_reals=["step"],
    time_varying_unknown_reals=["value"],
    target_normalizer=GroupNormalizer(groups=["series"], transformation="softplus"),
    add_relative_time_idx=True,
    add_target_scales=True,
)
validation = TimeSeriesDataSet.from_dataset(training, frame, predict=True, stop_randomization=True)


class Losses(pl.Callback):
    def __init__(self):
        self.values = []
        self.initial = 0.0

    def on_train_start(self, trainer, pl_module):
        self.initial = sum(p.double().abs().sum().item() for p in pl_module.parameters())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def network():
    return TemporalFusionTransformer.from_dataset(
        training,
        learning_rate=0.03,
        hidden_size=8,
        attention_head_size=1,
        dropout=0.0,
        hidden_continuous_size=4,
        loss=QuantileLoss(),
        log_interval=-1,
        optimizer="adam",
        reduce_on_plateau_patience=2,
    )


def run(name, shuffled):
    pl.seed_everything(8)
    options = dict(batch_size=16, num_workers=0)
    train_loader = training.to_dataloader(train=True, shuffle=shuffled, **options)
    val_loader = validation.to_dataloader(train=False, **options)
    model = network()
    losses = Losses()
    checkpoints = ModelCheckpoint(f"checkpoints_{name}", monitor="val_loss")
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=0.1,
        limit_train_batches=8,
        logger=CSVLogger("logs", name),
        log_every_n_steps=1,
        callbacks=[losses, checkpoints, EarlyStopping("val_loss", patience=5), LearningRateMonitor()],
    )
    trainer.fit(model, train_loader, val_loader)
    predicted = model.predict(val_loader, trainer_kwargs=dict(accelerator="cpu", logger=False, enable_progress_bar=False))
    again = network()
    again.load_state_dict(torch.load(checkpoints.best_model_path, weights_only=False)["state_dict"])
    last = torch.load(checkpoints.best_model_path, weights_only=False)["global_step"] == trainer.global_step
    return dict(
        initial=losses.initial,
        losses=losses.values,
        best=checkpoints.best_model_score.item(),
        validated=trainer.callback_metrics["val_loss"].item(),
        predicted=predicted.tolist(),
        reloaded=not last or all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters())),
        parameters=sum(p.double().abs().sum().item() for p in model.parameters()),
    )


print(json.dumps({"drawn": {"transformer": run("drawn", True)}, "fixed": {"transformer": run("fixed", False)}}))
