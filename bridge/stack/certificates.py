"""Makes ca.pem, tls.pem and tls.key in the folder that is named: for homeservers on loopback, for a month."""

import datetime
import ipaddress
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FOLDER = pathlib.Path(sys.argv[1])
NOW = datetime.datetime.now(datetime.timezone.utc)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, issuer, key):
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=30))
    )


def write(file, certificate):
    (FOLDER / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


AUTHORITY = "causeway loopback authority"
ca_key = ec.generate_private_key(ec.SECP256R1())
ca = certificate(AUTHORITY, AUTHORITY, ca_key)
ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
write("ca.pem", ca.sign(ca_key, hashes.SHA256()))

key = ec.generate_private_key(ec.SECP256R1())
names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
leaf = certificate("causeway loopback", AUTHORITY, key)
leaf = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False)
write("tls.pem", leaf.sign(ca_key, hashes.SHA256()))
(FOLDER / "tls.key").write_bytes(
    key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
)
