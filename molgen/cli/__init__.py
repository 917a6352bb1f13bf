"""The command line: thin, quick to start, one clear line on a mistake."""

from molgen.cli.app import main
from molgen.cli.options import parse_options

__all__ = ["main", "parse_options"]
