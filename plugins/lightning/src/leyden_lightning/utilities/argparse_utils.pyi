"""Lightning's ``utilities.argparse_utils``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.argparsing import add_argparse_args as add_argparse_args
from leyden_lightning.api.argparsing import from_argparse_args as from_argparse_args
from leyden_lightning.api.argparsing import parse_argparser as parse_argparser
from leyden_lightning.api.argparsing import parse_env_variables as parse_env_variables
