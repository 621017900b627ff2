"""What a first user found: each test is named after what went wrong."""

from __future__ import annotations

import pytest

from tests.netlab import REPOSITORY, NetLab

pytestmark = pytest.mark.lab
EXAMPLES = REPOSITORY / "examples"


def test_a_proxy_given_to_netext_filter_is_refused(lab: NetLab) -> None:
    """It was started, and filtered nothing for as long as it ran."""
    done = lab.near.run(*lab.netext("filter", "--provider", str(EXAMPLES / "pass_through.py")), timeout=20)
    assert done.returncode == 65
    assert "is of kind transparent-proxy: netext filter runs filters only" in done.stderr
    assert not lab.near.run("nft", "list", "tables").stdout
