"""The lab of our own tests is the public one, `network_extension.testing.netlab`."""

from __future__ import annotations

from pathlib import Path

from network_extension.testing.netlab import FAR4, FAR6, NEAR4, NEAR6, NOBODY, Host, NetLab, python, wait_for

REPOSITORY = Path(__file__).resolve().parent.parent

__all__ = ["FAR4", "FAR6", "NEAR4", "NEAR6", "NOBODY", "REPOSITORY", "Host", "NetLab", "python", "wait_for"]
