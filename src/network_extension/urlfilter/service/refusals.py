"""How a request ends that is not served: with a status of specification §1.2, and one line in the log.

Neither text ever holds anything of the request but numbers and sizes: no token, user, query, URL.
"""

from __future__ import annotations

from ...errors import NetworkExtensionError

EVALUATION_KEY_NOT_FOUND = "Evaluation key not found"
"""Apple's text: clients tell by it that the key is to be sent again."""


class Refusal(NetworkExtensionError):
    """A request that is not served. `message` goes to the client, `cause` and `next_step` into the log."""

    def __init__(
        self, status: int, message: str, *, cause: str = "", next_step: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = self.code = status
        self.message = message
        self.cause = cause or message
        self.next_step = next_step or _NEXT_STEPS.get(status, "")
        self.retry_after = retry_after
        """Seconds after which it is worth to ask again."""
        self.headers: dict[str, str] = {}
        """What else the answer says: the challenge of a 401."""


_NEXT_STEPS = {
    400: "the client's request is at fault: see that it follows the protocol (docs/urlfilter/troubleshooting.md)",
    401: "none if it is rare: the client fetches new tokens; else compare user tokens and issuer of both sides",
    404: "see that the name of the use case is <app bundle id>.url.filtering on both sides",
    408: "none if it is rare: a client with a bad network; else see what slows bodies down in front of the service",
    410: "none: the client fetches the new configuration; keep more versions if this is frequent",
    413: "none if it is rare; else see which client sends bodies that large",
    429: "none if it is rare; else see who has this user token, or raise --tokens-per-hour",
    499: "none if it is rare: the client did not wait for its answer; else give the service more cores",
    422: "none if it is rare: the client fetches the issuer's keys again",
    500: "ask for the system's update, or use sharding by SHA-256",
    501: "none: shards are addressed by their index only",
    503: "none if it is rare; else give the service more cores or instances (docs/urlfilter/operating.md)",
}


def bad_request(message: str, *, cause: str = "", next_step: str = "") -> Refusal:
    """400: what came cannot be meant."""
    return Refusal(400, message, cause=cause, next_step=next_step)


def unauthorized(message: str, *, cause: str = "", next_step: str = "") -> Refusal:
    """401: no token, or one that does not count."""
    return Refusal(401, message, cause=cause, next_step=next_step)


def busy(message: str, *, retry_after: int, cause: str = "", next_step: str = "") -> Refusal:
    """503: the same request will be served later."""
    return Refusal(503, message, cause=cause, next_step=next_step, retry_after=retry_after)
