"""`netext urlfilter forms`: the strings that devices look up for a URL."""

from __future__ import annotations

import argparse

from .arguments import ArgumentParser

EPILOG = """\
A URL is blocked if the list has any of these strings. The row to publish for it is named first: every system looks
that one up. Exit status: 0, or 78 if no system looks anything up for it.
"""


def main(arguments: list[str]) -> int:
    """Print them; the exit status. Raises UnusableURL."""
    from ..urlfilter.url_forms import SYSTEMS, candidates, row_of

    parser = ArgumentParser(
        "netext urlfilter forms",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL", nargs="+")
    parser.add_argument("--system", choices=(*SYSTEMS, "all"), default="all", help="of which systems (all)")
    parsed = parser.parse_args(arguments)
    systems = SYSTEMS if parsed.system == "all" else (parsed.system,)
    for url in parsed.url:
        print(f"{url}\n  publish {row_of(url)}")
        for system in systems:
            forms = candidates(url, system=system)
            print(f"  {system}: {len(forms)} strings")
            for form in forms:
                print(f"    {form}")
    return 0
