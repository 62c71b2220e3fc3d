"""Lightning's ``trainer.connectors``, for type checkers; written by tools/make_stubs.py."""
