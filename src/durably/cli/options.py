"""What several commands share: options, and the end of their help."""

import click

from durably.cli.errors import EXIT_CODES

store_option = click.option(
    "--store",
    metavar="URL",
    help="The store.  [default: DURABLY_STORE, else sqlite:///durably.db]",
)
concurrency_option = click.option(
    "--concurrency",
    metavar="NUMBER",
    help="Jobs at a time.  [default: DURABLY_CONCURRENCY, else the program's, else 32]",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that running jobs may take when it is stopped.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document; names are snake_case."
)


def epilog(*examples: str, notes: tuple[str, ...] = ()) -> str:
    """The end of a help page: notes, examples, exit codes; click keeps the lines as they are."""
    blocks = [notes] if notes else []
    blocks += [("Examples:", *(f"  {line}" for line in examples))]
    blocks += [("Exit codes:", *(f"  {line}" for line in EXIT_CODES))]
    return "\n\n".join("\b\n" + "\n".join(line or "\n\b" for line in block) for block in blocks)
