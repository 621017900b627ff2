"""Starts provider processes of a root filter as another user, or as root without a capability."""

from __future__ import annotations

import os
from typing import NoReturn

from ..errors import ConfigurationError
from ..linux.privileges import User, become
from ..linux.signals import restore


def provider_user(name: str | None) -> User:
    """Who runs the providers: the user asked for, else the one who called sudo, else root (without capabilities)."""
    if name is not None:
        return User.named(name)
    try:
        return User.named(os.environ.get("SUDO_UID", "0"))
    except ConfigurationError:  # a user of a directory service that is not there just now
        return User.named("0")


class ProviderLauncher:
    """Starts the processes of one run."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("SUDO_", "LD_"))
        } | {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}

    def __call__(self, arguments: list[str], signal_mask: set[int]) -> int:
        """The pid of a new process that executes `arguments`. Raises OSError."""
        pid = os.fork()
        if pid == 0:
            self._execute(arguments, signal_mask)
        return pid

    def _execute(self, arguments: list[str], signal_mask: set[int]) -> NoReturn:
        """In the child. Descriptors close by themselves (PEP 446), but the control channel's, which is inheritable."""
        try:
            os.setsid()
            become(self._user)
            restore(signal_mask)
            os.execve(arguments[0], arguments, self._environment)
        except BaseException as error:
            os.write(2, f"netext: a provider cannot be started as {self._user.name}: {error}\n".encode())
        finally:
            os._exit(127)
