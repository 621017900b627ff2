"""Files of rules: every error is told with file, line and column, and the nearest valid key."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import ConfigurationError
from network_extension.builtin.firewall.document import RuleFileError
from network_extension.builtin.firewall.list_cache import ListCache
from network_extension.builtin.firewall.rule_file import load_answers, load_rules, parse_rules
from network_extension.builtin.firewall.rules import Action

RULE = 'default = "allow"\n[[rule]]\naction = "deny"\n'


def write(folder: Path, text: str | bytes, name: str = "rules.toml") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def errors(folder: Path, text: str | bytes) -> list[str]:
    """What is said about a file, with the file's folder left out."""
    with pytest.raises(RuleFileError) as caught:
        load_rules(write(folder, text))
    return [str(error).replace(f"{folder}/", "") for error in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "rules.toml: default is missing"),
        ('default = "alow"', "rules.toml:1:1: default: 'alow' is none of allow, deny, drop, ask, learn"),
        ('default = "inspect"', "rules.toml:1:1: default: 'inspect' is none of"),
        ("default = 3", "rules.toml:1:1: default: 3 is none of"),
        ('default = "allow"\ndefault = "deny"', "rules.toml:2:17: not TOML: Cannot overwrite a value"),
        ('default = "allow', "rules.toml:1:17: not TOML: Unterminated string, and the file ends here"),
        ('default = "allow"\n\nrule = ?', "rules.toml:3:8: not TOML: Invalid value"),
        ('defualt = "allow"', "rules.toml:1:1: 'defualt' is not a key of a file of rules; did you mean 'default'?"),
        ('default = "allow"\nrule = 3', "rules.toml:2:1: rule: tables are needed; write [[rule]]"),
        ('default = "allow"\n[rule]\naction = "deny"', "rules.toml:2:1: rule: tables are needed; write [[rule]]"),
        ('default = "allow"\nask = 3', "rules.toml:2:1: ask: a table is needed, not 3; write [ask]"),
        ('default = "allow"\n[ask]\ndeadline = 0', "rules.toml:3:1: deadline: seconds up to 3600 are needed, not 0"),
        ('default = "allow"\n[ask]\nudp_deadline = 20', "rules.toml:3:1: udp_deadline: seconds up to 9.5"),
        ('default = "allow"\n[ask]\nunanswered = "ask"', "rules.toml:3:1: unanswered: 'ask' is none of allow, deny"),
        ('default = "allow"\n[ask]\ndedline = 3', "rules.toml:3:1: 'dedline' is not a key of [ask]"),
        ('default = "allow"\n[learn]\nfile = 3', "rules.toml:3:1: file: a text is needed, not 3"),
        ('default = "allow"\ninspect = "yes"', "rules.toml:2:1: inspect: 'yes' is none of true, false"),
        ('default = "allow"\nlog = "some"', "rules.toml:2:1: log: 'some' is none of 'denied', 'all', 'none'"),
        ('default = "allow"\n[[rule]]\nport = 1', "rules.toml:2:1: action is missing; one of allow, deny, drop, ask"),
        (RULE + "prot = 3", "rules.toml:4:1: 'prot' is not a key of a rule; did you mean 'port'?"),
        (RULE + "zzz = 3", "rules.toml:4:1: 'zzz' is not a key of a rule; keys are name, action"),
        (RULE + "port = 65536", 'rules.toml:4:1: port: a number from 0 to 65535 or a range as "8000-8999" is needed'),
        (RULE + "port = true", "rules.toml:4:1: port: a number from 0 to 65535"),
        (RULE + 'port = [\n  80,\n  "90-81",\n]', "rules.toml:6:3: port: '90-81' ends before it begins"),
        (RULE + "port = []", "rules.toml:4:1: port: an empty list matches nothing; leave the key out"),
        (RULE + 'protocol = "tpc"', "rules.toml:4:1: protocol: 'tpc' is none of tcp, udp, icmp"),
        (RULE + 'direction = "in"', "rules.toml:4:1: direction: 'in' is none of outbound, inbound, any"),
        (RULE + 'network = "10.0.0.0/33"', "rules.toml:4:1: network: '10.0.0.0/33' is neither an address nor a net"),
        (RULE + 'network = ["::1", "x"]', "rules.toml:4:19: network: 'x' is neither"),
        (RULE + 'host = "192.0.2.1"', 'rules.toml:4:1: host: "192.0.2.1" is an address; write network = "192.0.2.1"'),
        (RULE + 'host = "https://example.com"', "rules.toml:4:1: host: 'https://example.com' is no host name"),
        (RULE + 'host = "a..b"', "rules.toml:4:1: host: 'a..b' is no host name"),
        (RULE + 'domain = "*.example.com"', "rules.toml:4:1: domain: '*.example.com' is no host name; wildcards go"),
        (RULE + "host = 3", "rules.toml:4:1: host: a text is needed, not 3"),
        (RULE + 'program = ""', "rules.toml:4:1: program: a text is needed, not ''"),
        (RULE + 'program = "bin/curl"', "rules.toml:4:1: program: 'bin/curl' is neither a name nor a full path"),
        (RULE + f'program = "{"*a" * 9}"', "rules.toml:4:1: program: '*a*a*a*a*a*a*a*a*a' has more than 8 stars"),
        (RULE + 'user = "no such user"', "rules.toml:4:1: user: nobody here is called 'no such user'"),
        (RULE + "user = -1", "rules.toml:4:1: user: a name or a number is needed, not -1"),
        (RULE + "pid = 0", "rules.toml:4:1: pid: a number from 1 to"),
        (RULE + 'list = "missing.txt"', "rules.toml:4:1: list: missing.txt: cannot be read: No such file or directory"),
        (RULE + 'list = "."', "rules.toml:4:1: list: .: cannot be read: it is a directory"),
        (RULE + 'hours = "9-17"', "rules.toml:4:1: hours: '9-17' is not of the form 09:00-17:30"),
        (RULE + 'hours = "10:00-25:00"', "rules.toml:4:1: hours: '10:00-25:00': hours are 00 to 23"),
        (RULE + 'hours = "10:00-10:00"', "rules.toml:4:1: hours: '10:00-10:00' begins when it ends, so it never holds"),
        (RULE + 'weekdays = "mon-fry"', "rules.toml:4:1: weekdays: 'fry' is not a day of the week"),
        (RULE + 'until = "soon"', "rules.toml:4:1: until: a date and time as 2027-01-31T18:00:00,"),
        (RULE + "from = 2027-01-02\nuntil = 2027-01-01", "rules.toml:5:1: until: 2027-01-01 00:00 is not after from"),
        (RULE + "until = 12:00:00", "rules.toml:4:1: until: a date and time as"),
        (RULE + 'until = "exit"', 'rules.toml:4:1: until: "exit" needs the process that is meant, pid = …'),
        (RULE + 'enabled = "no"', "rules.toml:4:1: enabled: 'no' is none of true, false"),
        (RULE + 'name = "a"\n[[rule]]\naction = "deny"\nname = "a"', "rules.toml:7:1: name: 'a' is the name of"),
        (RULE + "note = 3", "rules.toml:4:1: note: a text is needed, not 3"),
        ('default = "allow"\ninclude = "rules.toml"', "rules.toml:2:1: include: rules.toml includes this file"),
        ('default = "allow"\ninclude = ["x"]', "rules.toml:2:12: include: x: cannot be read: No such"),
        (b'default = "allow"\n# \xff', "rules.toml:2:3: byte 0xff is not UTF-8; a file of rules is text"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "rules.toml:1:1: not TOML: Invalid statement"),
        ("a = " + "[" * 5000, "rules.toml: arrays or tables are nested too deeply"),
        ("a = " + "9" * 5000, "rules.toml: Exceeds the limit"),
        (b"x" * (1 << 20) + b"y", "rules.toml: cannot be read: it has 1048577 bytes, more than 1048576"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert errors(tmp_path, text)[0].startswith(expected)


def test_all_errors_are_found_in_one_go(tmp_path: Path) -> None:
    text = 'default = "allow"\n[[rule]]\naction = "deni"\n[[rule]]\naction = "deny"\nport = 70000\nprt = 1\n'
    found = errors(tmp_path, text)
    assert [error.split(": ")[0] for error in found] == ["rules.toml:3:1", "rules.toml:6:1", "rules.toml:7:1"]
    with pytest.raises(ConfigurationError, match=r"rules\.toml:3:1: .* \(and 2 more\)"):
        load_rules(str(tmp_path / "rules.toml"))


def test_an_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, '[[rule]]\naction = "deny"\nport = "x"\n', "more.toml")
    assert errors(tmp_path, 'default = "allow"\ninclude = "more.toml"')[0].startswith("more.toml:3:1: port: ")


def test_a_loop_of_includes_is_told_where_it_closes(tmp_path: Path) -> None:
    write(tmp_path, 'include = "b.toml"\n', "a.toml")
    write(tmp_path, '\ninclude = "a.toml"\n', "b.toml")
    found = errors(tmp_path, 'default = "allow"\ninclude = "a.toml"')
    assert found == ["b.toml:2:1: include: a.toml includes this file, or is it"]


def test_settings_belong_into_the_main_file(tmp_path: Path) -> None:
    write(tmp_path, 'default = "deny"\n', "more.toml")
    found = errors(tmp_path, 'default = "allow"\ninclude = "more.toml"')
    assert found == ["more.toml:1:1: 'default' is not a key of an included file; keys are include, rule"]


def test_included_rules_come_after_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, '[[rule]]\nname = "c"\naction = "deny"\n', "more.toml")
    text = (
        'default = "allow"\ninclude = ["more.toml"]\n[[rule]]\nname = "a"\naction = "drop"\n[[rule]]\naction = "ask"\n'
    )
    book = load_rules(write(tmp_path, text))
    assert [(rule.name, rule.action) for rule in book.rules] == [
        ("a", Action.DROP),
        ("rule 2", Action.ASK),
        ("c", Action.DENY),
    ]


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rules.toml")
    with pytest.raises(RuleFileError, match="cannot be read: it is not an ordinary file"):
        load_rules(str(tmp_path / "rules.toml"))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "rules.toml", "wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(RuleFileError, match="it has 104857600 bytes, more than 1048576"):
        load_rules(str(tmp_path / "rules.toml"))


def test_a_path_with_a_null_byte_is_an_error_as_others(tmp_path: Path) -> None:
    with pytest.raises(RuleFileError, match="cannot be read"):
        load_rules("rules\0.toml")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuleFileError, match="cannot be read: No such file or directory"):
        load_rules(str(tmp_path / "none.toml"))
    with pytest.raises(RuleFileError, match="cannot be read: it is a directory"):
        load_rules(str(tmp_path))


def test_a_list_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    write(tmp_path, "example.com\n", "names.txt")
    path, lists = write(tmp_path, RULE + 'list = "names.txt"'), ListCache()
    first, second = load_rules(path, lists), load_rules(path, lists)
    assert first.rules[0].conditions[0] == second.rules[0].conditions[0]
    write(tmp_path, "example.com\nexample.net\n", "names.txt")
    assert load_rules(path, lists).rules[0].conditions[0] != first.rules[0].conditions[0]


def test_bad_lines_of_a_list_are_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "example.com\n<html>\n!comment\nnot a name\n", "names.txt")
    book = load_rules(write(tmp_path, RULE + 'list = "names.txt"'))
    assert [text.partition("names.txt")[2] for text in book.warnings] == [
        ": 2 lines are neither names nor networks, and are left out; the first is line 2"
    ]


def test_a_binary_list_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, b"\x7fELF\0\0", "names.txt")
    assert "it is no text" in errors(tmp_path, RULE + 'list = "names.txt"')[0]


def test_rules_may_stand_in_the_configuration() -> None:
    book = parse_rules({"default": "deny", "rule": [{"action": "allow", "until": "2099-01-01T00:00:00"}]})
    assert book.rules[0].name == "rule 1"
    with pytest.raises(RuleFileError, match=r"configuration: rule\[0\]\.port\[1\]: port: a number"):
        parse_rules({"default": "deny", "rule": [{"action": "allow", "port": [1, "x"]}]})


def test_moments_are_of_the_machines_zone_where_they_name_none(tmp_path: Path) -> None:
    text = RULE + "from = 2027-01-01\nuntil = 2027-01-01T10:00:00Z\n"
    (condition,) = load_rules(write(tmp_path, text)).rules[0].conditions
    limits = condition.limits  # type: ignore[attr-defined]
    assert limits.start == datetime(2027, 1, 1).astimezone()
    assert limits.end == datetime(2027, 1, 1, 10, tzinfo=UTC)


def test_a_disabled_rule_is_checked_and_left_out(tmp_path: Path) -> None:
    assert load_rules(write(tmp_path, RULE + "enabled = false")).rules == ()
    assert errors(tmp_path, RULE + "enabled = false\nport = -1")


def test_without_a_file_of_answers_there_are_none(tmp_path: Path) -> None:
    assert load_answers(str(tmp_path / "answers.toml")) == ()


@given(st.binary(max_size=200))
def test_whatever_is_in_a_file_is_an_error_or_rules(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), content, "fuzzed.toml")
    try:
        load_rules(path)
    except RuleFileError as error:
        assert error.errors


KEYS = st.sampled_from(("name", "action", "program", "parent", "arguments", "user", "pid", "host", "domain", "port"))
VALUES = st.recursive(
    st.one_of(st.text(max_size=12), st.integers(), st.booleans(), st.floats(), st.datetimes(), st.dates(), st.times()),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=4), values, max_size=2),
    max_leaves=6,
)


@given(
    st.dictionaries(
        KEYS | st.sampled_from(["network", "protocol", "direction", "interface", "from", "until", "hours", "weekdays"]),
        VALUES,
    )
)
def test_whatever_values_a_rule_has_they_are_an_error_or_a_rule(data: dict[str, object]) -> None:
    try:
        book = parse_rules({"default": "allow", "rule": [{"action": "deny", **data}]})
    except RuleFileError as error:
        assert str(error)
    else:
        assert len(book.rules) == 1
