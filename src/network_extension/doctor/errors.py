"""The one error of the doctor's readers."""

from __future__ import annotations

from ..errors import NetworkExtensionError

__all__ = ["UnreadableFile"]


class UnreadableFile(NetworkExtensionError):
    """A file, or a part of one, is not what its place says it is.

    `what` names the part ("provisioning profile", "CMS signature"), `why` the first thing that is wrong with it.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why
