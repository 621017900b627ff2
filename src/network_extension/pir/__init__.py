"""Keyword private information retrieval by homomorphic encryption, wire-compatible with Apple's.

Imports nothing of the rest of the package, so that it can be read, tested and used alone. Needs the extra `urlfilter`.
"""
