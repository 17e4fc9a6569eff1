"""The box's certificate for what it says: an authority of its own, made at first boot, and one leaf that signs files.

Whoever wants to tell this box's files from others imports `content-ca.pem` as a trust anchor; its fingerprint can be
compared by eye.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.audio.provenance import Credential
from appliance.state_dir import write_private

AUTHORITY, CHAIN, KEY = "content-ca.pem", "content-chain.pem", "content.key"
_BEGINS = datetime(2020, 1, 1, tzinfo=UTC)  # a box without a battery may think that it is 1970 when it boots
_LASTS = timedelta(days=365 * 30)


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


def _name(organisation: str, common: str) -> x509.Name:
    parts = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, text[:64] or "voiced") for oid, text in parts])


def _start(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGINS)
        .not_valid_after(_BEGINS + _LASTS)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    subject = _name(name, "voiced content authority")
    builder = _start(subject, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_usage(signs_certificates=True), critical=True).sign(key, SHA256())


def _leaf(
    key: ec.EllipticCurvePrivateKey, authority_key: ec.EllipticCurvePrivateKey, authority: x509.Certificate, name: str
) -> x509.Certificate:
    return (
        _start(_name(name, "voiced speech"), authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)  # asked by C2PA
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, SHA256())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
