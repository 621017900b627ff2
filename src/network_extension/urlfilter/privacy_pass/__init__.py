"""Privacy Pass (RFC 9576 to 9578) with publicly verifiable tokens: issuer, origin and client."""
