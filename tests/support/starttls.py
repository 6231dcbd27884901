"""A client that takes any TLS there is: what a server speaks, told by somebody else than ourselves."""

import asyncio
import ssl
import warnings


async def starttls_version(address: str, port: int) -> str:
    """The version of TLS that a server gives a client who is content with TLS 1.0 and any certificate.

    Returns:
        Such as ``TLSv1.3``; empty when no handshake ends well.
    """
    reader, writer = await asyncio.open_connection(address, port)
    try:
        async with asyncio.timeout(60):
            for command in (b"EHLO test.example\r\n", b"STARTTLS\r\n"):
                await _reply(reader)
                writer.write(command)
            await _reply(reader)
            await writer.start_tls(_taking_any())
            return str(writer.get_extra_info("ssl_object").version())
    except (ssl.SSLError, ConnectionError):
        return ""
    finally:
        writer.transport.abort()


async def _reply(reader: asyncio.StreamReader) -> None:
    while True:
        line = await reader.readline()
        if line[3:4] != b"-":
            return


def _taking_any() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is what TLS 1.0 is
        context.minimum_version = ssl.TLSVersion.TLSv1
    return context
