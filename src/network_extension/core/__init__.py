"""Sans-IO engines: plain Python that takes values, bytes and `now`, and never touches a socket or a clock."""
