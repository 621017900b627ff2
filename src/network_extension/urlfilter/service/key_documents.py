"""Keys that all instances share: one document of the store, read, renewed, and replaced if nobody was quicker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ..stores import Store

Keys = TypeVar("Keys")
_MOST_TRIES = 8


async def renewed_document(
    store: Store,
    name: str,
    parse: Callable[[bytes], Keys],
    empty: Keys,
    renew: Callable[[Keys], Keys],
    serialize: Callable[[Keys], bytes],
) -> Keys:
    """The keys of the document `name`, after `renew`, which returns its argument when nothing is to change. Reading
    and making private keys takes 30 ms and more each, so that is done in a thread.

    Raises `StoreUnavailable`, and what `parse` raises for a damaged document. RuntimeError: other instances replace
    the document again and again, which one of a sound program never does.
    """
    for _ in range(_MOST_TRIES):
        stored = await store.document(name)
        keys = empty if stored is None else await asyncio.to_thread(parse, stored)
        changed = await asyncio.to_thread(renew, keys)
        if changed is keys or await store.replace_document(name, stored, serialize(changed)):
            return changed
    raise RuntimeError(f"the store's document {name} is replaced again and again; stop the other instances")
