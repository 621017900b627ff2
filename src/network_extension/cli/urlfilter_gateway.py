"""`netext urlfilter gateway`: Oblivious HTTP before a service on another machine."""

from __future__ import annotations

from . import urlfilter_ohttp

DESCRIPTION = """\
Open requests that came by way of a relay, pass them on to the targets that are named here and to no others, and seal
the answers (RFC 9458). netext urlfilter serve has a gateway of its own; this one is for a machine of its own.

A target is an origin, https://pir.example.com; clients call it by its host and port, or by the NAME before it:
--target pir.example.com=http://10.0.0.7:8080. The log on standard error is JSON and names no client.
"""


def main(arguments: list[str]) -> int:
    """Serve until a signal says stop; the exit status. Raises NetworkExtensionError."""
    parser = urlfilter_ohttp.parser("gateway", DESCRIPTION, 8081)
    parser.add_argument(
        "--target", metavar="[NAME=]ORIGIN", action="append", required=True, help="where requests may go; repeatable"
    )
    parser.add_argument(
        "--store", metavar="FILE|redis://…", default="gateway.sqlite", help="where its keys are kept (gateway.sqlite)"
    )
    options = parser.parse_args(arguments)

    from ..urlfilter.oblivious_http.gateway import KEYS_PATH, PATHS
    from ..urlfilter.oblivious_services import GatewayService, named_target
    from ..urlfilter.service.event_log import EventLog, now
    from ..urlfilter.stores import open_store

    targets = dict(map(named_target, options.target))

    def service() -> GatewayService:
        return GatewayService(targets, open_store(options.store), now, EventLog())

    def places(url: str) -> dict[str, str]:
        leads = ", ".join(
            name if origin.endswith(f"//{name}") else f"{name} ({origin})" for name, origin in targets.items()
        )
        return {"gateway": url + PATHS[1], "keys": url + KEYS_PATH, "leads to": leads, "health": f"{url}/health"}

    return urlfilter_ohttp.run(parser, options, service, places)
