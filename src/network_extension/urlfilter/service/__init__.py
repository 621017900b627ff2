"""The URL filter's server: private lookup, token issuer and Oblivious HTTP gateway behind one command."""
