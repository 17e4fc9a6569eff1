"""The box's own authority for TLS, made at first boot, and the server certificate that it signs.

There is no public authority on a network without internet. Clients get `tls-ca.pem` once (from `/ca.pem`), compare its
fingerprint with what the box shows, and are safe from then on; the server certificate is renewed under it without them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.errors import Corrupt
from appliance.security.certificates import BEGINS, begin, distinguished_name, usage
from appliance.state_dir import write_private

AUTHORITY, AUTHORITY_KEY = "tls-ca.pem", "tls-ca.key"
SERVER = "tls-server.pem"  # chain and key in one file, replaced whole
LASTS = timedelta(days=397)  # what clients accept at most
RENEW_BEFORE = timedelta(days=30)


class ServerCertificate:
    """The certificate in `folder` and the TLS context that uses it. Methods block for milliseconds."""

    def __init__(self, folder: Path, name: str) -> None:
        """Makes what is missing. Raises Corrupt("tls_key_damaged")."""
        self._folder = folder
        self._name = name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (folder / AUTHORITY_KEY).is_file():
            self._make_authority()
        try:
            self._authority = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
            self._authority_key = load_pem_private_key((folder / AUTHORITY_KEY).read_bytes(), None)
        except (OSError, ValueError) as error:
            raise Corrupt("tls_key_damaged", path=str(folder / AUTHORITY_KEY)) from error
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    @property
    def authority(self) -> str:
        """PEM of the certificate that clients check ours with."""
        return self._authority.public_bytes(Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self._authority.public_bytes(Encoding.PEM))

    def cover(self, addresses: Iterable[str]) -> bool:
        """Have a valid certificate for these addresses and this machine's names; whether a new one was made.

        New connections get it at once, those under way keep theirs.
        """
        wanted = self._names(addresses)
        is_new = not self._is_good(wanted)
        if is_new:
            self._issue(wanted)
        try:
            self.context.load_cert_chain(self._folder / SERVER)
        except ssl.SSLError:  # its key is damaged: the box need not stay shut for that
            self._issue(wanted)
            self.context.load_cert_chain(self._folder / SERVER)
            return True
        return is_new

    def _names(self, addresses: Iterable[str]) -> set[x509.GeneralName]:
        host = socket.gethostname()
        names = {"localhost", host, f"{host.partition('.')[0]}.local"}
        texts = {"127.0.0.1", "::1", *(address.partition("%")[0] for address in addresses)}
        found: set[x509.GeneralName] = {x509.DNSName(name) for name in names if name.isascii()}
        return found | {x509.IPAddress(ipaddress.ip_address(text)) for text in texts}

    def _is_good(self, wanted: set[x509.GeneralName]) -> bool:
        try:
            known = x509.load_pem_x509_certificate((self._folder / SERVER).read_bytes())
            known.verify_directly_issued_by(self._authority)
            told = set(known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        except Exception:  # noqa: BLE001 - whatever is wrong with the old one, a new one is made
            return False
        now = datetime.now(UTC)
        return wanted <= told and known.not_valid_before_utc <= now < known.not_valid_after_utc - RENEW_BEFORE

    def _issue(self, names: set[x509.GeneralName]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        valid = (max(BEGINS, now - timedelta(days=1)), max(BEGINS, now) + LASTS)
        builder = (
            begin(distinguished_name(self._name, "voiced server"), self._authority.subject, key, valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(sorted(names, key=repr)), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
        )
        leaf = builder.sign(self._authority_key, SHA256())  # type: ignore[arg-type]
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(self._folder / SERVER, (leaf.public_bytes(Encoding.PEM) + secret).decode())

    def _make_authority(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = distinguished_name(self._name, "voiced box authority")
        authority = (
            begin(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage(signs_certificates=True), critical=True)
            .sign(key, SHA256())
        )
        write_private(self._folder / AUTHORITY, authority.public_bytes(Encoding.PEM).decode())
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(self._folder / AUTHORITY_KEY, secret.decode())  # last: with it both are complete


def fingerprint_of(pem: bytes) -> str:
    """SHA-256 of the certificate, as people compare it: "AB:CD:…"."""
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return hashlib.sha256(der).digest().hex(":").upper()
