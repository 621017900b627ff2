"""The command lines of all sub-commands are read alike: what is wrong is said in one line, with exit status 64."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ..errors import ExitCode


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, which prints its usage as well and ends with 2."""

    def error(self, message: str) -> NoReturn:
        """End the process."""
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}; {self.prog} --help says more\n")
