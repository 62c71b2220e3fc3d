"""A subcommand of ``leyden`` that does not depend on leyden-cli."""


class AcmeCommand:
    help = "greets"

    def add_arguments(self, parser):
        parser.add_argument("whom")

    def run(self, args):
        print(f"hello {args.whom}")
        return 3
