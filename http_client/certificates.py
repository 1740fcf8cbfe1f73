"""Files of certificates and keys, read by TLS before anything depends on them.

Called by whoever checks settings: a mistake would otherwise show in every connection, as somebody else's.
"""

import ssl
from pathlib import Path

PEM_HINT = (
    "convert it with `openssl x509 -inform der -in FILE`, or ask for the file that begins with -----BEGIN CERTIFICATE"
)


def problem_with_file(file: Path) -> str | None:
    """Say why a file cannot be read, or return None."""
    try:
        with file.open("rb"):
            return None
    except PermissionError:
        return f"names {file}, which this user may not read: allow it, or put the file elsewhere"
    except (OSError, ValueError):
        return f"names {file}, which is no file: put it there, or correct the path"


def problem_with_authorities(file: Path) -> str | None:
    """Say why a file is no list of authorities to trust, or return None once TLS has read it."""
    if problem := problem_with_file(file):
        return problem
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except (ssl.SSLError, OSError):
        return f"names {file}, which holds no certificate in PEM form: {PEM_HINT}"
    if not context.cert_store_stats()["x509"]:
        # A list of revoked certificates can be loaded too.
        return f"names {file}, which holds no certificate in PEM form: {PEM_HINT}"
    return None


def problem_with_own(certificate: Path, key: Path, password: str = "") -> str | None:
    """Say why a certificate of ours and its key cannot be shown to others, or return None once TLS has read them."""
    if problem := problem_with_file(certificate) or problem_with_file(key):
        return problem
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: password)
    except (ssl.SSLError, OSError):
        return f"names {certificate} and {key}, which are no certificate and its key in PEM form"
    return None
