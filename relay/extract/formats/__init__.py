"""One module a format: octets to text, or the reason why not."""
