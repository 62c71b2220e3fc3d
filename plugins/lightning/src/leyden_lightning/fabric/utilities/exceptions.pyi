"""Lightning's ``fabric.utilities.exceptions``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.exceptions import DeadlockDetectedException as DeadlockDetectedException
from leyden_lightning.api.exceptions import ExitGracefullyException as ExitGracefullyException
from leyden_lightning.api.exceptions import MisconfigurationException as MisconfigurationException
from leyden_lightning.api.exceptions import SIGTERMException as SIGTERMException
