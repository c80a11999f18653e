# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command line. Every command is a module of `inspatio_ros.commands`; heavy imports wait until one runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from inspatio_ros import __version__
from inspatio_ros.commands import bench, caption, demo, doctor, evaluate, import_bag, render, verify
from inspatio_ros.errors import InspatioError

COMMANDS = {'demo': demo, 'import': import_bag, 'render': render, 'evaluate': evaluate, 'verify': verify,
            'bench': bench, 'caption': caption, 'doctor': doctor}

EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 2, 130, 141


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for an error as everywhere else."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f'inspatio: error: {message} (see {self.prog} --help)\n')


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = _Parser(prog='inspatio', description='Turn a recording into a world that a robot can drive through.')
    parser.add_argument('--version', action='version', version=f'inspatio_ros {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='command', required=True, parser_class=_Parser)
    for name, module in COMMANDS.items():
        summary = module.__doc__.strip().splitlines()[0]
        sub = commands.add_parser(name, help=summary[0].lower() + summary[1:].rstrip('.'), description=module.__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code; errors that the user can mend are one line on stderr."""
    args = build_parser().parse_args(argv)
    try:
        return COMMANDS[args.command].run(args)
    except InspatioError as error:
        print(f'inspatio: error: {error}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print('inspatio: stopped', file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); Python would complain once more while it shuts down. What
        # was asked for was not done to its end, and a shell's `pipefail` shall see that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


if __name__ == '__main__':
    sys.exit(main())
