"""Postern: a self-hosted SMTP relay that enforces encryption policy for healthcare mail."""

__version__ = "0.1.0"
