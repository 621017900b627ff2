"""What looks for the rules, by family. A rule is added by one entry in the catalogue and one function here."""
