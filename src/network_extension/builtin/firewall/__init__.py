"""A firewall with rules in a file."""
