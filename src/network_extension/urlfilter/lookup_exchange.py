"""One exchange of a lookup: it succeeds, or fails in a way that `Recovery` knows."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from .lookup_recovery import Outcome, outcome_of
from .web_exchange import ExchangeLost, Transport, WebAnswer, WebRequest

_LONGEST_TEXT = 200


class StepFailed(Exception):
    """A step of a lookup failed; `retry_after` is what the service asked for, in seconds."""

    def __init__(self, outcome: Outcome, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.outcome, self.retry_after = outcome, retry_after


async def exchange(transport: Transport, request: WebRequest) -> WebAnswer:
    """Send a request; its answer, if that is a success. Raises StepFailed."""
    try:
        answer = await transport.exchange(request)
    except ExchangeLost as error:
        raise StepFailed(Outcome.LOST, str(error)) from error
    outcome = outcome_of(answer.status, answer.body)
    if outcome is None:
        return answer
    said = message_of(answer.body)
    text = f"{request.method} {urlsplit(request.url).path}: {answer.status}{f': {said}' if said else ''}"
    raise StepFailed(outcome, text, answer.retry_after)


def message_of(body: bytes) -> str:
    """What a service says in an error's body, `{"error": {"message": …}}` (§1.2), or in plain text; one short line."""
    try:
        content = json.loads(body[:65_536])
        text = content["error"]["message"] if isinstance(content["error"], dict) else content["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = body[:_LONGEST_TEXT].decode("utf-8", "replace")
    line = " ".join(str(text).split())[:_LONGEST_TEXT]
    return line if line.isprintable() else ""
