"""Figures for Prometheus. Labels name routes, statuses and use cases, never a client."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One registry for one service, so that several may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        prefix, registry = "netext_urlfilter_", self._registry
        self.requests = Counter(f"{prefix}requests", "Requests answered.", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            f"{prefix}request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.lookups = Counter(f"{prefix}lookups", "Lookups answered.", ["usecase"], registry=registry)
        self.tokens_issued = Counter(f"{prefix}tokens_issued", "Tokens signed.", ["tier"], registry=registry)
        self.keys_stored = Counter(f"{prefix}evaluation_keys_stored", "Evaluation keys stored.", registry=registry)
        self.reports = Counter(f"{prefix}reports", "Reports of URLs written.", registry=registry)
        self.reloads = Counter(f"{prefix}reloads", "Reloads of the databases.", ["outcome"], registry=registry)
        self.store_failures = Counter(f"{prefix}store_failures", "Calls that the store failed.", registry=registry)
        self.expired = Counter(f"{prefix}expired", "Keys and nonces that were forgotten.", registry=registry)
        self.shards = Gauge(f"{prefix}shards", "Shards of the newest version.", ["usecase"], registry=registry)
        self.versions = Gauge(f"{prefix}versions", "Versions served.", ["usecase"], registry=registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for when somebody looks."""
        Gauge(f"netext_urlfilter_{name}", text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self._registry)
