"""Compression of /config, the only reply that is compressed (specification §1.2). RFC 9110 §12.5.3."""

from __future__ import annotations

import gzip
import zlib

_CODINGS = ("gzip", "deflate")


def accepted_coding(accept_encoding: str) -> str | None:
    """The better of gzip and deflate that an Accept-Encoding header allows; None for neither."""
    weights: dict[str, float] = {}
    for item in accept_encoding.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weights[name] = _weight(parameters)
    rest = weights.get("*", 0.0)
    best = max(_CODINGS, key=lambda coding: weights.get(coding, rest))
    return best if weights.get(best, rest) > 0 else None


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def encoded(body: bytes, coding: str) -> bytes:
    """`body` in this coding; "deflate" is zlib's format, as RFC 9110 §8.4.1.2 has it."""
    return gzip.compress(body, mtime=0) if coding == "gzip" else zlib.compress(body)
