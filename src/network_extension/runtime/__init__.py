"""The stages that put real traffic through providers, and the processes that they are made of."""
