"""``python -m leyden_lightning script.py ...`` runs a script written for Lightning, without an edit."""

import sys

from leyden_lightning.running.script import ScriptError, run_script

if __name__ == "__main__":
    try:
        run_script(sys.argv[1:])
    except ScriptError as error:
        print(f"python -m leyden_lightning: {error}", file=sys.stderr)
        sys.exit(2)
