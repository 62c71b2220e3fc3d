"""Tables: pytorch-tabular's CategoryEmbedding and GANDALF classify made rows, in drawn order and in fixed order."""

import json
import warnings

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig, GANDALFConfig
from torch.utils.data import SequentialSampler

warnings.filterwarnings("ignore")
random = np.random.default_rng(0)
frame = pd.DataFrame({"a": random.normal(size=240), "b": random.normal(size=240), "c": random.choice(list("xyz"), 240)})
frame["target"] = ((frame.a + frame.b > 0) ^ (frame.c == "x")).astype(int)
train, valid, test = frame[:160], frame[160:200], frame[200:]


class Losses(pl.Callback):
    def __init__(self):
        self.values = []
        self.initial = 0.0

    def on_train_start(self, trainer, pl_module):
        self.initial = sum(p.double().abs().sum().item() for p in pl_module.parameters())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def run(config, name, sampler):
    model = TabularModel(
        data_config=DataConfig(target=["target"], continuous_cols=["a", "b"], categorical_cols=["c"], num_workers=0),
        model_config=config,
        optimizer_config=OptimizerConfig(lr_scheduler="ReduceLROnPlateau", lr_scheduler_params={"patience": 2}),
        trainer_config=TrainerConfig(
            batch_size=32,
            max_epochs=8,
            accelerator="cpu",
            progress_bar="none",
            checkpoints_path=f"saved_{name}",
            load_best=True,
            early_stopping_patience=4,
            auto_lr_find=False,
            seed=11,
            data_aware_init_batch_size=100,
            trainer_kwargs=dict(enable_model_summary=False),
        ),
        verbose=False,
    )
    losses = Losses()
    model.fit(train=train, validation=valid, train_sampler=sampler, callbacks=[losses])
    result = model.evaluate(test, verbose=False)[0]
    predicted = model.predict(test)
    model.save_model(f"model_{name}")
    again = TabularModel.load_model(f"model_{name}").predict(test)
    return dict(
        initial=losses.initial,
        losses=losses.values,
        tested=dict(sorted(result.items())),
        shape=list(predicted.shape),
        probabilities=predicted.filter(like="probability").to_numpy().tolist(),
        steps=model.trainer.global_step,
        reloaded=bool(np.allclose(predicted.filter(like="probability"), again.filter(like="probability"))),
        parameters=sum(p.double().abs().sum().item() for p in model.model.parameters()),
    )


def both(name, sampler):
    category = CategoryEmbeddingModelConfig(task="classification", layers="16-8", learning_rate=0.02)
    gandalf = GANDALFConfig(task="classification", gflu_stages=2, learning_rate=0.02)
    return {
        "category": run(category, f"category_{name}", sampler),
        "gandalf": run(gandalf, f"gandalf_{name}", sampler),
    }


print(json.dumps({"drawn": both("drawn", None), "fixed": both("fixed", SequentialSampler(range(len(train))))}))
