"""What test-deb.sh has in place of a homeserver, and of systemd's socket."""

import http.server
import json
import re
import socket
import sys


def notify(path: str, log: str) -> None:
    """Writes down what a service says to systemd (sd_notify), a line each."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    with open(log, "a", encoding="utf-8") as lines:
        while True:
            print(listener.recv(4096).decode(), file=lines, flush=True)


class Homeserver(http.server.BaseHTTPRequestHandler):
    """As much of a homeserver as a start and an empty `/sync` need."""

    sender = ""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        status, body = 200, {}
        if path.endswith("/versions"):
            body = {"versions": ["v1.12"]}
        elif path.endswith("/whoami"):
            bot = "user_id=" in self.path
            body = {"user_id": "@causewaybot:example.org" if bot else self.sender}
        elif path.endswith("/register"):
            status, body = 400, {"errcode": "M_USER_IN_USE", "error": "taken"}
        elif path.endswith("/sync"):
            body = {"next_batch": "1"}
        elif path.endswith("/joined_rooms"):
            body = {"joined_rooms": []}
        elif "/account_data/" in path and self.command == "GET":
            status, body = 404, {"errcode": "M_NOT_FOUND", "error": "nothing"}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = answer


def homeserver(registration: str) -> None:
    """Serves at the port that `causeway init` has for it."""
    with open(registration, encoding="utf-8") as file:
        found = re.search(r"^sender_localpart: (\S+)", file.read(), re.M)
    Homeserver.sender = f"@{found[1]}:example.org"
    http.server.ThreadingHTTPServer(("127.0.0.1", 8008), Homeserver).serve_forever()


if __name__ == "__main__":
    {"notify": notify, "homeserver": homeserver}[sys.argv[1]](*sys.argv[2:])
