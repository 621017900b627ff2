"""A firewall that people can use: rules in TOML, questions in the terminal, proposals from what it saw.

    netext run --provider network_extension.builtin.firewall --config rules=firewall.toml -- COMMAND
    sudo netext filter --provider network_extension.builtin.firewall --config rules=firewall.toml

docs/firewall.md tells how rules are written. The modules, from the bottom:

    facts                                   what rules look at
    patterns lists times                    what conditions are made of
    conditions destinations rules           a rule, and the plain definition of what rules decide
    index                                   the same, quickly
    places document tables                  TOML with lines and columns
    rule_times rule_keys list_cache rule_file loading watching
                                            from files to rules, again and again
    questions answers ask_socket ask_server asking
                                            from a paused flow to a rule
    learning learned_file toml_text         proposals, and files that are replaced in one step
    first_bytes explaining provider         names from bytes; why; and the provider, which is the rest
"""

from .provider import Firewall

# `--provider network_extension.builtin.firewall` looks for the classes that this module defines.
Firewall.__module__ = __name__

__all__ = ["Firewall"]
