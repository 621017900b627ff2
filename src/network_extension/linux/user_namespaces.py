"""Why this user may not make namespaces, and which setting allows it: the sysctls of three distributions.

Asked only after the attempt has failed; the attempt itself is what counts.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Setting(NamedTuple):
    """A kernel parameter that may forbid namespaces."""

    name: str
    forbids: str
    """The value that does."""
    means: str
    next_step: str


SETTINGS = (
    Setting(
        "kernel.unprivileged_userns_clone",
        "0",
        "Debian's switch keeps ordinary users from making user namespaces",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    Setting(
        "user.max_user_namespaces",
        "0",
        "the limit of user namespaces is 0",
        "sudo sysctl -w user.max_user_namespaces=10000",
    ),
    Setting(
        "user.max_net_namespaces",
        "0",
        "the limit of network namespaces is 0",
        "sudo sysctl -w user.max_net_namespaces=10000",
    ),
    Setting(
        "user.max_mnt_namespaces",
        "0",
        "the limit of mount namespaces is 0",
        "sudo sysctl -w user.max_mnt_namespaces=10000",
    ),
    Setting(
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor (Ubuntu) takes the capabilities away from user namespaces of ordinary users",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


def parameter(name: str) -> str | None:
    """The value of a kernel parameter, e.g. `user.max_user_namespaces`; None where there is none."""
    try:
        with open("/proc/sys/" + name.replace(".", "/")) as file:
            return file.read().strip()
    except OSError:
        return None


def why_forbidden() -> tuple[str, str]:
    """What forbids user namespaces, as far as that can be seen, and the next step."""
    for name, forbidding, meaning, step in SETTINGS:
        if parameter(name) == forbidding and not (os.geteuid() == 0 and name.startswith("kernel.")):
            return f"{meaning} ({name} = {forbidding})", step
    if _is_filtered():
        return (
            "a seccomp filter, as containers have one, forbids it",
            "run the container with --security-opt seccomp=unconfined, or outside a container",
        )
    return (
        "the kernel was built without them, or a security module or a chroot forbids it",
        "zgrep CONFIG_USER_NS /proc/config.gz, and look into the kernel's log",
    )


def _is_filtered() -> bool:
    try:
        with open("/proc/self/status") as status:
            return any(line.split() == ["Seccomp:", "2"] for line in status)
    except OSError:
        return False
