"""Oblivious HTTP (RFC 9458): gateway, relay and client, with Binary HTTP (RFC 9292) and HPKE (RFC 9180)."""
