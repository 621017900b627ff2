"""The host's checks in the formats of the reports."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from network_extension.cli.host_report import host_report
from network_extension.doctor.reporters import REPORTERS
from network_extension.doctor.rule import Severity
from network_extension.linux.probes import State
from network_extension.runtime.doctor import Check

CHECKS = [
    Check("nft", State.OK, True, "makes tables"),
    Check("ping", State.DEGRADED, True, "only raw sockets", "setcap cap_net_raw+ep /bin/ping"),
    Check("IPv6", State.MISSING, False, "the host has none"),
    Check("user namespaces", State.MISSING, True, "forbidden", "sysctl kernel.unprivileged_userns_clone=1"),
]


def test_what_is_not_well_is_a_finding_and_what_is_well_is_told() -> None:
    report = host_report(CHECKS)
    assert [(found.rule.id, found.severity) for found in report.findings] == [
        ("user namespaces", Severity.FATAL),
        ("ping", Severity.WARN),
        ("IPv6", Severity.WARN),
    ]
    assert report.findings[0].rule.fix == "sysctl kernel.unprivileged_userns_clone=1"
    assert report.verified == ("nft: makes tables",)


def test_every_format_shows_it() -> None:
    report = host_report(CHECKS)
    for name, reporter in REPORTERS.items():
        said = reporter(report)
        assert "user namespaces" in said and "unprivileged" in said, name
    suite = ElementTree.fromstring(REPORTERS["junit"](report).split("\n", 1)[1])
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("4", "1")
    results = json.loads(REPORTERS["sarif"](report))["runs"][0]["results"]
    assert [one["level"] for one in results] == ["error", "warning", "warning"]
