"""Tables: pytorch-tabular's CategoryEmbedding and GANDALF classify made rows."""

import json
import warnings

import numpy as np
import pandas as pd
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig, GANDALFConfig

warnings.filterwarnings("ignore")
random = np.random.default_rng(0)
frame = pd.DataFrame({"a": random.normal(size=240), "b": random.normal(size=240), "c": random.choice(list("xyz"), 240)})
frame["target"] = ((frame.a + frame.b > 0) ^ (frame.c == "x")).astype(int)
train, valid, test = frame[:160], frame[160:200], frame[200:]


def run(config, name):
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
    model.fit(train=train, validation=valid)
    result = model.evaluate(test, verbose=False)[0]
    predicted = model.predict(test)
    model.save_model(f"model_{name}")
    again = TabularModel.load_model(f"model_{name}").predict(test)
    return dict(
        tested={k: round(v, 5) for k, v in sorted(result.items())},
        shape=list(predicted.shape),
        steps=model.trainer.global_step,
        reloaded=bool(np.allclose(predicted.filter(like="probability"), again.filter(like="probability"))),
        parameters=sum(p.double().abs().sum().item() for p in model.model.parameters()),
    )


print(
    json.dumps(
        {
            "category": run(CategoryEmbeddingModelConfig(task="classification", layers="16-8", learning_rate=0.02), "category"),
            "gandalf": run(GANDALFConfig(task="classification", gflu_stages=2, learning_rate=0.02), "gandalf"),
        }
    )
)
