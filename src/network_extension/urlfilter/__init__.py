"""Apple's URL filter, both sides: prefilter, lists, service and client. Needs the extra `urlfilter`."""
