"""Put on the bus of every run because it is installed."""

from leyden import hookimpl

STARTED = []


@hookimpl
def on_train_start(trainer):
    STARTED.append(trainer.max_steps)
