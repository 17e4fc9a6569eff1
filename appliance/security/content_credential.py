"""The box's certificate for what it says: an authority of its own, made at first boot, and one leaf that signs files.

Whoever wants to tell this box's files from others imports `content-ca.pem` as a trust anchor; its fingerprint can be
compared by eye.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.audio.provenance import Credential
from appliance.security.certificates import begin, distinguished_name, usage
from appliance.state_dir import write_private

AUTHORITY, CHAIN, KEY = "content-ca.pem", "content-chain.pem", "content.key"


def open_content_credential(folder: Path, name: str) -> Credential:
    """The leaf in `folder`, made at first boot for the box called `name`. Blocks."""
    if not (folder / KEY).is_file():
        _make(folder, name)
    return Credential((folder / CHAIN).read_text(encoding="ascii"), (folder / KEY).read_bytes())


def read_authority(folder: Path) -> str:
    """The authority's certificate (PEM); empty before first boot."""
    path = folder / AUTHORITY
    return path.read_text(encoding="ascii") if path.is_file() else ""


def _make(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, name)
    leaf = _leaf(leaf_key, authority_key, authority, name)
    pem = [certificate.public_bytes(Encoding.PEM).decode() for certificate in (leaf, authority)]
    write_private(folder / AUTHORITY, pem[1])
    write_private(folder / CHAIN, "".join(pem))
    secret = leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / KEY, secret.decode())  # last: with it the three are complete; the authority's is forgotten


def _authority(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    subject = distinguished_name(name, "voiced content authority")
    builder = begin(subject, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(usage(signs_certificates=True), critical=True).sign(key, SHA256())


def _leaf(
    key: ec.EllipticCurvePrivateKey, authority_key: ec.EllipticCurvePrivateKey, authority: x509.Certificate, name: str
) -> x509.Certificate:
    return (
        begin(distinguished_name(name, "voiced speech"), authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)  # asked by C2PA
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, SHA256())
    )
