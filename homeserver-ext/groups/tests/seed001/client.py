"""A client that speaks `opus_v1` and nothing else, written from seed 001 and docs/protocol.md.

SenderKey, the envelope and the distribution are the seed's; around them stands as much of the protocol as
a device needs to be one: an account, an Olm account, envelopes, a stream. No roster is looked at.

    client.py URL NAME     one JSON command on each line of stdin, one JSON answer on each line of stdout
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import time
import urllib.request
import uuid
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from vodozemac import Account, AnyOlmMessage, Curve25519PublicKey

PREFIX = "/_causeway/native/v1"
SUITE = 0x81


class SenderKey:
    """Seed 001, Pattern 1."""

    def __init__(self, chain_key=None, signature_private=None):
        self.chain_key = chain_key or os.urandom(32)
        self.signature_private = signature_private or Ed25519PrivateKey.generate()
        self.message_index = 0

    def derive_message_key(self):
        hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"SenderKey_MessageKey")
        return hkdf.derive(self.chain_key)

    def advance_chain(self):
        self.chain_key = hashlib.sha256(self.chain_key + b"SenderKey_ChainAdvance").digest()
        self.message_index += 1

    def encrypt_message(self, plaintext):
        message_key = self.derive_message_key()
        nonce = os.urandom(12)
        ciphertext = nonce + AESGCM(message_key).encrypt(nonce, plaintext, None)
        signature = self.signature_private.sign(ciphertext)
        current_index = self.message_index
        self.advance_chain()
        return ciphertext, signature, current_index

    def export_public(self):
        return {
            "chain_key": self.chain_key.hex(),
            "signature_public": self.signature_private.public_key().public_bytes_raw().hex(),
            "message_index": self.message_index,
        }


class Received(SenderKey):
    """What another's SenderKey is to whoever was given it."""

    def __init__(self, exported):
        self.chain_key = bytes.fromhex(exported["chain_key"])
        self.signature_public = Ed25519PublicKey.from_public_bytes(
            bytes.fromhex(exported["signature_public"])
        )
        self.message_index = exported["message_index"]

    def decrypt_message(self, ciphertext, signature, message_index):
        self.signature_public.verify(signature, ciphertext)
        while self.message_index < message_index:
            self.advance_chain()
        key = self.derive_message_key()
        plaintext = AESGCM(key).decrypt(ciphertext[:12], ciphertext[12:], None)
        self.advance_chain()
        return plaintext


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Stream:
    """`GET stream`, RFC 6455 as far as it takes."""

    def __init__(self, url, token):
        at = urlsplit(url)
        self.socket = socket.create_connection((at.hostname, at.port), timeout=60)
        self.socket.sendall(
            (
                f"GET {PREFIX}/stream HTTP/1.1\r\nHost: {at.netloc}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
                f"Authorization: Bearer {token}\r\n\r\n"
            ).encode()
        )
        self.file = self.socket.makefile("rb")
        assert b" 101 " in self.file.readline()
        while self.file.readline().strip():
            pass
        self.frame()  # hello

    def frame(self):
        while True:
            first, length = self.file.read(2)
            if length == 126:
                (length,) = struct.unpack(">H", self.file.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.file.read(8))
            data = self.file.read(length)
            if first & 15 == 9:
                self.send(10, data)
            elif first & 15 == 1:
                return json.loads(data)
            elif first & 15 == 8:
                raise EOFError("the stream ended")

    def send(self, kind, data):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.socket.sendall(bytes([0x80 | kind, 0x80 | len(data)]) + mask + masked)

    def next(self):
        row = self.frame()
        self.send(1, json.dumps({"ack": row["seq"]}).encode())
        return row["envelope"]


class Client:
    def __init__(self, url, name):
        self.url, self.token, self.name = url, None, name
        self.identity, self.key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.member_id = self.identity.public_key().public_bytes_raw()
        self.device_id = self.key.public_key().public_bytes_raw()
        self.olm, self.sessions, self.given, self.held = Account(), {}, set(), {}
        self.sender_key, self.group = SenderKey(), None
        self.account = f"{name}:{self.call('GET', '/server')['server']}"
        self.register()
        self.stream = Stream(url, self.token)

    def call(self, method, path, body=None):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + PREFIX + path, data=data, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return json.loads(answer.read() or b"null")

    def sign(self, key, label, fields):
        return b64(key.sign(label.encode() + b"\0" + fields))

    def register(self):
        curve = self.olm.curve25519_key.to_bytes()
        triple = self.member_id + self.device_id + curve
        account, created = self.account.encode(), int(time.time() * 1000)
        listed = bytes([len(account)]) + account + struct.pack(">IQH", 1, created, 1)
        self.olm.generate_one_time_keys(20)
        self.olm.generate_fallback_key()
        one_time = list(self.olm.one_time_keys.values())
        (fallback,) = self.olm.fallback_key.values()

        def one(number, public, is_fallback):
            number, public = struct.pack(">Q", number), public.to_bytes()
            fields = self.device_id + bytes([is_fallback]) + number + public
            return {
                "key_id": b64(number),
                "fallback": bool(is_fallback),
                "curve25519": b64(public),
                "signature": self.sign(self.key, "cg/otk/v2", fields),
            }

        session = self.call(
            "POST",
            "/register",
            {
                "list": {
                    "account": self.account,
                    "member_id": b64(self.member_id),
                    "version": 1,
                    "created_ms": created,
                    "devices": [b64(self.device_id)],
                    "signature": self.sign(
                        self.identity, "cg/devlist/v2", self.member_id + listed + self.device_id
                    ),
                },
                "device": {
                    "member_id": b64(self.member_id),
                    "device_id": b64(self.device_id),
                    "curve25519": b64(curve),
                    "signature": self.sign(self.key, "cg/device/v2", triple),
                    "certificate": self.sign(self.identity, "cg/devcert/v2", triple),
                },
                "one_time_keys": [one(n + 1, key, 0) for n, key in enumerate(one_time)],
                "fallback_key": one(1000, fallback, 1),
            },
        )
        self.olm.mark_keys_as_published()
        self.token = session["access_token"]

    def devices(self, account):
        return self.call("GET", f"/accounts/{account}")["devices"]

    def group_name(self):
        return str(uuid.UUID(bytes=unb64(self.group)[:16]))

    def give(self, account):
        """Seed 001, Pattern 2: the key to each of them, by the session with each."""
        for device in self.devices(account):
            to = unb64(device["device_id"])
            if to in self.given:
                continue
            if to not in self.sessions:
                claimed = self.call("POST", "/keys/claim", {"devices": [b64(to)]})["keys"][b64(to)]
                self.sessions[to] = self.olm.create_outbound_session(
                    Curve25519PublicKey.from_bytes(unb64(device["curve25519"])),
                    Curve25519PublicKey.from_bytes(unb64(claimed["curve25519"])),
                )
            text = json.dumps(self.sender_key.export_public()).encode()
            route = unb64(self.group) + self.device_id + to
            said = b"\x02L" + route + bytes([SUITE, 1]) + struct.pack(">H", len(text)) + text
            kind, message = self.sessions[to].encrypt(said).to_parts()
            payload = bytes([kind]) + message
            name = hashlib.sha256(b"cg/envid\0\x01" + self.device_id + to + payload).digest()[:16]
            envelope = {
                "id": b64(name),
                "kind": "key_distribution",
                "group": self.group,
                "epoch": self.call("GET", f"/groups/{self.group}")["epoch"],
                "sender": {"account": self.account, "device": b64(self.device_id)},
                "to": {"device": b64(to)},
                "ttl_ms": 86_400_000,
                "payload": b64(payload),
            }
            self.call("POST", f"/groups/{self.group}/envelopes", {"envelopes": [envelope]})
            self.given.add(to)

    def say(self, text, to):
        for account in to:
            self.give(account)
        plaintext = json.dumps({"body": text, "reply_to": None}).encode()
        ciphertext, signature, index = self.sender_key.encrypt_message(plaintext)
        message = {
            "type": "group_message",
            "group_id": self.group_name(),
            "message_id": str(uuid.uuid4()),
            "sender_public_key": self.device_id.hex(),
            "timestamp": int(time.time() * 1000),
            "message_index": index,
            "ciphertext": ciphertext.hex(),
            "signature": signature.hex(),
        }
        # With the separators of json.dumps, as the seed has them nowhere else than by default.
        path = f"/groups/{self.group}/legacy/opus_v1/messages"
        self.call("POST", path, json.dumps(message).encode())
        return {"said": index}

    def hear(self):
        """Reads on to the next group message."""
        while True:
            envelope = self.stream.next()
            self.group = envelope["group"]
            sender = envelope.get("sender")
            payload = unb64(envelope["payload"])
            if envelope["kind"] == "key_distribution":
                self.take(sender, payload)
            elif envelope["kind"] == "message":
                message = json.loads(payload)
                assert message["type"] == "group_message"
                assert message["group_id"] == self.group_name()
                assert message["sender_public_key"] == unb64(sender["device"]).hex()
                plaintext = self.held[sender["device"]].decrypt_message(
                    bytes.fromhex(message["ciphertext"]),
                    bytes.fromhex(message["signature"]),
                    message["message_index"],
                )
                return {"heard": json.loads(plaintext)["body"], "index": message["message_index"]}

    def take(self, sender, payload):
        peer = unb64(sender["device"])
        message = AnyOlmMessage.from_parts(payload[0], payload[1:])
        if peer in self.sessions and payload[0] == 1:
            plaintext = self.sessions[peer].decrypt(message)
        else:
            records = self.devices(sender["account"])
            (record,) = [r for r in records if r["device_id"] == sender["device"]]
            identity = Curve25519PublicKey.from_bytes(unb64(record["curve25519"]))
            session, plaintext = self.olm.create_inbound_session(identity, message.to_pre_key())
            self.sessions[peer] = session
        if plaintext[:2] == b"\x02L":
            route = plaintext[2:98]
            assert route == unb64(self.group) + peer + self.device_id
            assert plaintext[98] == SUITE
            (length,) = struct.unpack(">H", plaintext[100:102])
            text = plaintext[102:]
            assert len(text) == length
            self.held[sender["device"]] = Received(json.loads(text))


def read_invite(link):
    """What a link says, if it is as this would have written it."""
    beginning = "discordopus://join/"
    invite = json.loads(base64.urlsafe_b64decode(link[len(beginning):]))
    assert list(invite) == ["g", "n", "c", "e", "t"]
    again = beginning + base64.urlsafe_b64encode(json.dumps(invite).encode()).decode()
    assert again == link
    return invite


def main():
    client = Client(sys.argv[1], sys.argv[2])
    print(json.dumps({"account": client.account, "device": b64(client.device_id)}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "say":
            answer = client.say(command["text"], command["to"])
        elif command["do"] == "invite":
            answer = read_invite(command["link"])
        else:
            answer = client.hear()
        print(json.dumps(answer), flush=True)


main()
