"""Loggers that write the numbers of a run into files: TensorBoard events and CSV.

Importing this package imports no client; TensorBoard's is imported when the first number is written.
"""

from leyden_loggers.csv import CSVLogger
from leyden_loggers.run_directory import RunDirectory
from leyden_loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "RunDirectory", "TensorBoardLogger"]
