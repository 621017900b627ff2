"""What a program reads in place of an answer to its plain HTTP request: a block page, or a redirect (reference §2.17).

A block page is made of the control provider's maps: the URL behind its button may hold NE_FLOW_URL, NE_FLOW_HOSTNAME,
NE_ORGANIZATION and NE_USERNAME, whose values come in percent-encoded. A redirect goes to the request's own URL with a
string of the control provider's appended, for search engines that know a parameter for safe search.

Nothing that a program or a provider says gets into a header or into HTML unescaped. Who asks for a page where there is
no plain HTTP gets none, and the flow is dropped.
"""

from __future__ import annotations

import re

from .filter_hello import ControlMaps

BUTTON_TEXT = "Request Access"
MAX_URL = 8192
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_URL_SAFE = _SAFE | frozenset(b":/?#[]@!$&'()*+,;=%")
_PLACEHOLDER = re.compile("NE_FLOW_URL|NE_FLOW_HOSTNAME|NE_ORGANIZATION|NE_USERNAME")
_LINKS = ("http://", "https://", "mailto:")


def remediation_url(maps: ControlMaps, key: str, url: str | None, host: str | None) -> str:
    """Where the block page's button leads; "" without one. `url` and `host` are the blocked flow's."""
    values = {
        "NE_FLOW_URL": url or "",
        "NE_FLOW_HOSTNAME": host or "",
        "NE_ORGANIZATION": maps.organization,
        "NE_USERNAME": maps.username,
    }
    filled = _PLACEHOLDER.sub(lambda name: percent_encoded(values[name[0]], _SAFE), maps.urls.get(key, ""))
    found = percent_encoded(filled, _URL_SAFE)
    return found if found.lower().startswith(_LINKS) and len(found) <= MAX_URL else ""


def block_page(maps: ControlMaps, key: str, button_key: str, url: str | None, host: str | None) -> bytes:
    """A whole HTTP response: 403 and a small page with a link."""
    link = remediation_url(maps, key, url, host)
    text = maps.button_texts.get(button_key) or BUTTON_TEXT
    by = f" by {escaped(maps.organization)}" if maps.organization else ""
    parts = [
        "<!DOCTYPE html>\n<html lang=en>\n<meta charset=utf-8>\n<title>Blocked</title>\n",
        "<body style='font-family: sans-serif; margin: 4em auto; max-width: 40em'>\n<h1>Blocked</h1>\n",
        f"<p>Access to <b>{escaped((host or url or 'this site')[:300])}</b> has been blocked{by}.</p>\n",
    ]
    if link:
        parts.append(f"<p><a href='{escaped(link)}'>{escaped(text)}</a></p>\n")
    return _response("403 Forbidden", "".join(parts).encode("utf-8", "replace"))


def redirect(url: str, string: str) -> bytes | None:
    """A whole HTTP response: 302 to the URL with the string appended; None if that would be no URL."""
    target = percent_encoded(url + string, _URL_SAFE)
    if not string or len(target) > MAX_URL or not target.startswith(_LINKS[:2]):
        return None
    return _response("302 Found", b"", f"Location: {target}\r\n")


def percent_encoded(text: str, safe: frozenset[int]) -> str:
    """The text with all bytes but the safe ones as %XX (RFC 3986 §2.1)."""
    data = text.encode("utf-8", "replace")
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in data)


def escaped(text: str) -> str:
    """The text as HTML shows it, in element content and in quoted attributes."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


def _response(status: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\n{more}Content-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
