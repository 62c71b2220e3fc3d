"""``leyden port FILE|DIR``: what is of an older Lightning, whether it runs as it is, and what to write."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import ClassVar


class PortCommand:
    """Reports; ``--write`` rewrites imports and renamed arguments, keeping the formatting."""

    help: ClassVar[str] = "reports what a script has of older Lightning, and rewrites what needs no thought"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Takes files and folders."""
        parser.add_argument("paths", nargs="+", help="files, or folders whose .py files are read")
        parser.add_argument("--write", action="store_true", help="rewrite imports and renamed arguments in place")

    def run(self, args: Namespace) -> int:
        """Prints a line for each finding.

        Returns:
            0 if everything found runs as it is, 1 if something does not or a file cannot be read, 2 if there is no such file.
        """
        try:
            import libcst
        except ModuleNotFoundError:
            print("leyden port needs libcst, which is not installed; run: pip install 'leyden-lightning[port]'", file=sys.stderr)
            return 2
        from leyden_lightning.porting.findings import by_kind, examine

        files: list[Path] = []
        for given in map(Path, args.paths):
            if not given.exists():
                print(f"leyden port: there is no {str(given)!r}", file=sys.stderr)
                return 2
            files += sorted(given.rglob("*.py")) if given.is_dir() else [given]
        everything = []
        failed = False
        for path in files:
            source = path.read_text(encoding="utf-8")
            try:
                findings, changed = examine(source, str(path))
            except libcst.ParserSyntaxError as error:
                print(f"{path}:{error.raw_line}: cannot be read: {error.message}")
                failed = True
                continue
            everything += findings
            for finding in findings:
                verdict = "runs as it is" if finding.runs else "does not run"
                print(f"{finding.path}:{finding.line}: {finding.what}: {verdict}; in 2.6 and leyden: {finding.instead}")
            if args.write and changed != source:
                path.write_text(changed, encoding="utf-8")
        counts = by_kind(everything)
        done = "were rewritten" if args.write else "would be rewritten with --write"
        found, rewritten, not_running = counts.values()
        print(f"{found} found in {len(files)} files; {rewritten} {done}; {not_running} do not run")
        return int(failed or not_running > 0)
