"""Lightning's ``utilities.memory``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import garbage_collection_cuda as garbage_collection_cuda
from leyden_lightning.api.tools import get_model_size_mb as get_model_size_mb
from leyden_lightning.api.tools import is_cuda_out_of_memory as is_cuda_out_of_memory
from leyden_lightning.api.tools import is_cudnn_snafu as is_cudnn_snafu
from leyden_lightning.api.tools import is_oom_error as is_oom_error
from leyden_lightning.api.tools import is_out_of_cpu_memory as is_out_of_cpu_memory
from leyden_lightning.api.tools import recursive_detach as recursive_detach
