"""Block pages and redirects as bytes: placeholders, escapes, and nothing that gets into a header."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from network_extension.runtime.filter_hello import ControlMaps
from network_extension.runtime.filter_pages import block_page, redirect, remediation_url

URL = "http://blocked.example/a?b=c&d"


def test_the_placeholders_of_a_url() -> None:
    template = "https://help.example/NE_ORGANIZATION/?u=NE_FLOW_URL&h=NE_FLOW_HOSTNAME&n=NE_USERNAME"
    maps = ControlMaps({"k": template}, organization="A & B", username="jürgen")
    assert remediation_url(maps, "k", URL, "blocked.example") == (
        "https://help.example/A%20%26%20B/?u=http%3A%2F%2Fblocked.example%2Fa%3Fb%3Dc%26d"
        "&h=blocked.example&n=j%C3%BCrgen"
    )


def test_a_placeholder_in_a_value_is_no_placeholder() -> None:
    maps = ControlMaps({"k": "http://h/?u=NE_FLOW_URL&n=NE_USERNAME"}, username="secret")
    assert remediation_url(maps, "k", "NE_USERNAME", None) == "http://h/?u=NE_USERNAME&n=secret"


def test_what_is_no_link() -> None:
    for url in ("javascript:alert(1)", "data:text/html,x", "", "//x", "http://" + "x" * 9000):
        assert remediation_url(ControlMaps({"k": url}), "k", URL, None) == ""
    assert remediation_url(ControlMaps(), "k", URL, None) == ""


def test_a_page() -> None:
    maps = ControlMaps({"k": "http://help.example/'><script>"}, {}, {}, "<b>Org</b>")
    page = block_page(maps, "k", "", URL, "blocked.example")
    head, _, body = page.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n") and b"Connection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b">Request Access</a>" in body and b"<script" not in body and b"&lt;b&gt;Org" in body
    assert b"blocked.example" in body


def test_a_redirect() -> None:
    page = redirect("http://search.example/?q=x", "&safe=strict")
    assert page is not None
    assert page.startswith(b"HTTP/1.1 302 Found\r\nLocation: http://search.example/?q=x&safe=strict\r\n")
    assert redirect("http://search.example/", "") is None
    assert redirect("ftp://search.example/", "x") is None
    assert redirect("http://search.example/", "x" * 9000) is None


@given(st.text(), st.text(), st.text(), st.text())
def test_whatever_they_hold_there_is_one_head_and_no_tag_of_theirs(url: str, host: str, text: str, name: str) -> None:
    maps = ControlMaps({"k": "http://h/?" + url + "NE_FLOW_URL"}, {"b": text}, {"s": text}, name, name)
    page = block_page(maps, "k", "b", url, host)
    head, _, body = page.partition(b"\r\n\r\n")
    assert len(head.split(b"\r\n")) == 5 and head.isascii()
    plain = ControlMaps({"k": "http://h/"} if b"<a " in body else {})
    assert body.count(b"<") == block_page(plain, "k", "b", "u", "h").count(b"<")
    moved = redirect("http://h/" + url, text)
    if moved is not None:
        head, _, body = moved.partition(b"\r\n\r\n")
        assert len(head.split(b"\r\n")) == 6 and head.isascii() and not body
