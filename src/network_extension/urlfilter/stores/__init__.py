"""What the service must not forget: evaluation keys, the issuer's and the gateway's keys, nonces of spent tokens.

`SQLiteStore` is one file for one service; `RedisStore` is shared by any number of them. `open_store` picks one.
"""

from .opening import open_store
from .store import KeyRecord, Store, StoreUnavailable

__all__ = ["KeyRecord", "Store", "StoreUnavailable", "open_store"]
