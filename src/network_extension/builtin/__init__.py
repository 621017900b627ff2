"""Providers that come with the package: ready to run, and written with nothing but the public API."""
