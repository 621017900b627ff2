"""`netext urlfilter relay`: what hides from a gateway who asks, for trying out the chain that Apple runs."""

from __future__ import annotations

from . import urlfilter_ohttp

DESCRIPTION = """\
Pass sealed requests on to one gateway: their bytes and type, and nothing of the client (RFC 9458). In production Apple
runs the relay; one that belongs to the gateway's operator protects from nobody.
"""


def main(arguments: list[str]) -> int:
    """Serve until a signal says stop; the exit status. Raises NetworkExtensionError."""
    parser = urlfilter_ohttp.parser("relay", DESCRIPTION, 8082)
    parser.add_argument("--gateway", metavar="URL", required=True, help="where the gateway takes requests, or its host")
    options = parser.parse_args(arguments)

    from ..urlfilter.oblivious_services import RelayService
    from ..urlfilter.service.event_log import EventLog

    service = RelayService(options.gateway, EventLog())
    return urlfilter_ohttp.run(
        parser, options, lambda: service, lambda url: {"relay": f"{url}/", "leads to": service.gateway_url}
    )
