"""A mail server with TLS and login, by aiosmtpd: what it takes goes to a file, a line of JSON for each mail.

smtpd.py HOST PORT starttls|tls CERT KEY FILE. The user is muster, the password secret. Mail for refused@ is refused for
good (550), for never@ for now (451), for later@ for now and at the third time taken, for slow@ after a minute.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

HOST, PORT, MODE, CERT, KEY, FILE = sys.argv[1:7]


class Handler:
    tries = {}

    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.split("@")[0]
        self.tries[name] = self.tries.get(name, 0) + 1
        if name == "refused":
            return "550 5.1.1 there is nobody of that name"
        if name == "never" or (name == "later" and self.tries[name] < 3):
            return "451 4.7.1 come back later"
        if name == "slow":
            await asyncio.sleep(60)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": envelope.content.decode("utf-8", "replace"),
            "user": session.auth_data,
            "tls": session.ssl is not None or MODE == "tls",
        }
        with open(FILE, "a") as file:
            file.write(json.dumps(mail) + "\n")
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b"muster", b"secret")
    return AuthResult(success=good, handled=False, auth_data=data.login.decode())


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT, KEY)
    loop = asyncio.get_running_loop()
    implicit = MODE == "tls"

    def factory():
        return SMTP(
            Handler(),
            hostname="localhost",
            loop=loop,
            tls_context=None if implicit else context,
            require_starttls=not implicit,
            auth_required=True,
            auth_require_tls=not implicit,
            authenticator=authenticate,
            decode_data=False,
        )

    server = await loop.create_server(factory, HOST, int(PORT), ssl=context if implicit else None)
    print("listening", flush=True)
    await server.serve_forever()


asyncio.run(main())
