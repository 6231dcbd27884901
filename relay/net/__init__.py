"""Towards peers: resolver, hosts of a destination, TLS levels and SMTP connections."""
