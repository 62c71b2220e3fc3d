"""``leyden ckpt``: what can be done with a checkpoint file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from leyden.messages import announce

from leyden_cli.ckpt.convert import FORMATS, convert
from leyden_cli.ckpt.differences import Differences
from leyden_cli.ckpt.inspection import inspect_file
from leyden_cli.ckpt.reading import files_in, opened
from leyden_cli.command import Command


class CkptCommand(Command):
    """Four small tools for checkpoint files; none of them runs anything that a file names."""

    help = "looks into checkpoint files: inspect, diff, convert, verify"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Takes what to do and the files."""
        tools = parser.add_subparsers(dest="tool", required=True, metavar="inspect|diff|convert|verify")
        inspect = tools.add_parser("inspect", help="what a file holds: weights, step, versions, hyperparameters")
        inspect.add_argument("file", help="a file, or a URL that fsspec knows")
        inspect.add_argument("--json", action="store_true", help="the same as one JSON object on standard output")
        diff = tools.add_parser("diff", help="where two files differ; exits with 1 if they do")
        diff.add_argument("file")
        diff.add_argument("other")
        diff.add_argument("--weights", action="store_true", help="compare the weights only")
        diff.add_argument("--limit", type=int, default=20, metavar="N", help="show the first N differences (20)")
        change = tools.add_parser("convert", help="Lightning's files to leyden's, and leyden's to others")
        change.add_argument("file")
        change.add_argument("new_file")
        change.add_argument("--to", choices=FORMATS, help="the format; by the new file's suffix if not given")
        change.add_argument(
            "--allow", action="append", default=[], metavar="NAME", help="a class or function in the file whose data is kept"
        )
        change.add_argument("--force", action="store_true", help="replace the new file if it exists")
        verify = tools.add_parser("verify", help="whether files are whole and can be loaded; exits with 1 if one is not")
        verify.add_argument("file", nargs="+", help="files, or directories of *.ckpt files")

    def run(self, args: Namespace) -> int:
        """Does it.

        Returns:
            0; 1 if files differ or one is not what it should be.

        Raises:
            UsageError: there is no such file, or the new one exists.
        """
        try:
            if args.tool == "inspect":
                print(inspect_file(args.file, as_json=args.json))
                return 0
            if args.tool == "diff":
                found = Differences(opened(args.file), opened(args.other), weights=args.weights)
                print(found.text(args.limit))
                return int(bool(found))
            if args.tool == "convert":
                print(convert(args.file, args.new_file, args.to, args.allow, args.force))
                return 0
        except ValueError as error:
            announce(f"ckpt: {error}")
            return 1
        return self._verify(files_in(args.file))

    def _verify(self, files: list[str]) -> int:
        bad = 0
        for file in files:
            try:
                checkpoint = opened(file)
            except ValueError as error:
                announce(f"ckpt: {error}")
                bad += 1
            else:
                print(f"{file}: whole; {len(checkpoint['state_dict'])} weights, step {checkpoint.get('global_step')}")
        return int(bad > 0)
