"""The BFV scheme: polynomials, keys, ciphertexts, and what can be done with them."""
