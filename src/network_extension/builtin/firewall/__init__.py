"""A firewall that people can use: rules in TOML, questions in the terminal, proposals from what it saw.

    netext run --provider network_extension.builtin.firewall --config rules=firewall.toml -- COMMAND
    sudo netext filter --provider network_extension.builtin.firewall --config rules=firewall.toml

docs/firewall.md tells how rules are written. The modules, from the bottom: `facts` of a flow; `patterns`, `lists`,
`times`; `conditions` and `destinations` of a rule; `rules`, which is also the definition of what they decide; `index`,
which decides quickly; `places`, `document`, `rule_keys`, `rule_file`, `loading`, `watching` for files; `questions`,
`answers`, `ask_socket`, `ask_server`, `asking`; `learning`; `explaining`; `provider`, which is the rest.
"""

from .provider import Firewall

# `--provider network_extension.builtin.firewall` looks for the classes that this module defines.
Firewall.__module__ = __name__

__all__ = ["Firewall"]
