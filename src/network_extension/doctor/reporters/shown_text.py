"""Text from somebody else's bundle, made fit to be shown.

An id, a path, a class name may hold whatever its maker liked: escape sequences for a terminal, characters that turn the
reading direction around, line ends that look like another finding. All of that is shown as `\\u` escapes.
"""

from __future__ import annotations

import unicodedata

__all__ = ["shown"]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of what is not to be seen: controls, formats, surrogates, and separators of lines."""
LONGEST = 2000


def shown(text: str) -> str:
    """One line without anything hidden, of bounded length."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\\u{ord(one):04x}" if unicodedata.category(one) in _HIDDEN else one for one in text)
