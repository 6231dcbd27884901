"""Pure SMTP: the server session and the client transaction as sans-io machines, and the wire format."""
