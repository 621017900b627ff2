"""What an app travels in: archives and installer packages, unpacked without trust in a byte of them."""
