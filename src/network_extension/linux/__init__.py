"""The only floor that talks to the kernel. Nothing here knows what a provider is."""
