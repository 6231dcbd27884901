"""Pure cryptography: sealing at rest, the key ring, DKIM signatures, the audit chain. Bytes in, bytes out, or an error.

Keys, time and randomness are arguments; nothing here opens a file or a socket.
"""
