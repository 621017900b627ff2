"""What goes wrong in private information retrieval.

    PirError                a ValueError: the other side's bytes, or what the caller asked for, cannot be meant
    ├── ParameterError      parameters that are not among those known to be good
    ├── SerializationError  bytes of a key, ciphertext, plaintext or database that are no such thing
    ├── NoiseError          a ciphertext that no longer decrypts to what was put in
    └── DatabaseError       a database file, its parameters, or its rows

A message names the object, the cause and the next step. It never holds a keyword, a coefficient or a key.
"""

from __future__ import annotations


class PirError(ValueError):
    """Base class of all errors of `network_extension.pir`."""


class ParameterError(PirError):
    """Encryption parameters or dimensions that are not among those known to be good, or do not fit each other."""


class SerializationError(PirError):
    """Bytes that are not what they were given as: wrong size, wrong count, a value outside of its range."""


class NoiseError(PirError):
    """A ciphertext whose noise has grown past what decryption can remove, so its value is lost."""


class DatabaseError(PirError):
    """A database that cannot be read or made: a row, a file or its parameters are at fault."""
