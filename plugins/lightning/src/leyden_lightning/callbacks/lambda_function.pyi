"""Lightning's ``callbacks.lambda_function``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.lambda_callback import LambdaCallback as LambdaCallback
