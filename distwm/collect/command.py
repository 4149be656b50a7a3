"""What `python -m distwm.collect` does once its words are understood."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing

from distwm.collect.book import Book
from distwm.collect.plan import check, parse
from distwm.collect.tryout import try_all
from distwm.commands import output_to
from distwm.rundir import RunDir, resolve_run_dir


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises BadInput, Missing, or TryAgain, which names the tasks that were given up."""
    config, orders = parse(arguments.words)
    if arguments.help_config:
        from distwm.help import print_table

        print_table(config, "python -m distwm.collect", sys.stdout)
        return 0
    check(config, orders)
    tried = try_all(config, orders)
    root = RunDir(resolve_run_dir(config.as_run(), "collect"))
    with root.owned(), closing(Book(root.root, config)) as book:
        for order in orders:
            book.enter(order, tried[order.key])
        book.save(book.seconds)
        with output_to(root.log) as terminal:
            from distwm.collect.session import collect  # Ray: seconds that a mistyped word should not cost

            return collect(config, orders, root, book, terminal)
