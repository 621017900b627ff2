"""POST /report: URLs that a supervised device reports (specification §1.2, iOS 27). They go to files and nowhere else.

Each report becomes `<UUID>.txtpb`, a URLFilterReportWithMetadata in text form, as Apple's service writes it.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from uuid import uuid4

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from ...pir.proto.api_pb2 import URLFilterReport, URLFilterReportWithMetadata
from .refusals import Refusal, bad_request

MOST_URLS = 10_000


def parse_report(body: bytes, content_type: str) -> URLFilterReport:
    """The report in a body: a JSON array of strings if the content type says so, else the protobuf message.

    Raises `Refusal` 400.
    """
    if content_type.partition(";")[0].strip().lower() == "application/json":
        report = URLFilterReport(urls=_urls_of_json(body))
    else:
        try:
            report = URLFilterReport.FromString(body)
        except DecodeError:
            raise bad_request("The body is no URLFilterReport") from None
    if len(report.urls) > MOST_URLS:
        raise bad_request(f"{len(report.urls)} URLs in one report; {MOST_URLS} at most")
    return report


def _urls_of_json(body: bytes) -> list[str]:
    try:
        urls = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("The body is not JSON") from None
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise bad_request("The body is no JSON array of strings")
    try:
        for url in urls:
            url.encode()
    except UnicodeEncodeError:
        raise bad_request("A text of the JSON array holds half of a surrogate pair") from None
    return urls


def write_report(directory: Path, report: URLFilterReport, user_agent: str, received_at: float) -> Path:
    """Write it so that a reader never sees half of it, readable by the owner only; the file.

    Raises `Refusal` 503 when it cannot be written.
    """
    content = URLFilterReportWithMetadata(user_agent=user_agent, report=report)
    content.received_at.FromMilliseconds(int(received_at * 1000))
    target = directory / f"{str(uuid4()).upper()}.txtpb"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=directory)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text_format.MessageToString(content))
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise Refusal(
            503,
            "The report cannot be kept now",
            cause=f"reportDirectory {directory}: {error.strerror}",
            next_step="see that the directory can be written and its disk has room",
            retry_after=60,
        ) from error
    return target
