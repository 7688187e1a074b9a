"""A mail server that keeps what it takes: PORT FOLDER MODE [CERTIFICATE KEY].

MODE is starttls, tls or none. With TLS it takes mail from alice with her password alone.
"""

import asyncio
import ssl
import sys

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, AuthResult


def authenticate(server, session, envelope, mechanism, data):
    known = (data.login, data.password) == (b"alice", b"correct horse")
    return AuthResult(success=known, handled=known)


async def main(port, folder, mode, certificate=None, key=None):
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)

    def connection():
        return SMTP(
            Mailbox(folder),
            hostname="mail.example.com",
            tls_context=context if mode == "starttls" else None,
            require_starttls=mode == "starttls",
            authenticator=authenticate,
            auth_required=context is not None,
            auth_require_tls=mode == "starttls",
        )

    server = await asyncio.get_running_loop().create_server(
        connection, "127.0.0.1", int(port), ssl=context if mode == "tls" else None
    )
    async with server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
