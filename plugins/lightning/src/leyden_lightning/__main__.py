"""``python -m leyden_lightning script.py ...`` runs a script written for Lightning, without an edit."""

import sys

from leyden_lightning.running.script import run_script

if __name__ == "__main__":
    try:
        run_script(sys.argv[1:])
    except ValueError as error:
        if len(sys.argv) > 1:
            raise
        sys.exit(f"python -m leyden_lightning: {error}")
