"""Masking of secrets in text that is shown, logged or stored: passwords in URLs, keys, tokens."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
"""Text that replaces a secret."""
MIN_LENGTH = 8
"""Shortest value of a variable that is masked wherever it stands; a shorter one could be an ordinary word."""

_SECRET = r"(?:password|passwd|passphrase|secret|token(?!s|i)|signature|credential|api_?key|access_?key|auth_string)"
_VARIABLE = re.compile(r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN(?!IZ)|CREDENTIAL|AUTH_STRING|_KEY(_ID)?$", re.I)
_URL_IN_VARIABLE = re.compile(r"[a-z][a-z0-9+.\-]*://[^\s'\",]+", re.I)
_PATTERNS = (
    # user:password@ in a URL; also one whose password has slashes, as AWS's secrets have
    (re.compile(r"(://)[^\s/?#'\"<>]*@"), rf"\g<1>{MASK}@"),
    (re.compile(r"(://)[^\s/?#'\"<>@:]+:(?!\d{1,5}[/?#])[^\s'\"<>@]*@"), rf"\g<1>{MASK}@"),
    # ?X-Amz-Signature=..., &token=..., password=... (connection strings, too), AWS_SECRET_ACCESS_KEY=...
    (re.compile(rf"([?&;][\w.%\-]*(?:{_SECRET}|key|sig|auth)[\w.%\-]*=)[^\s&;#'\"<>]+", re.I), rf"\g<1>{MASK}"),
    (re.compile(rf"(\b[\w\-]*{_SECRET}[\w\-]*[ ]?=[ ]?)[^\s&;,#'\"<>()]+", re.I), rf"\g<1>{MASK}"),
    (
        re.compile(r"(authorization['\"]?\s*[:=]\s*(?:b?['\"])?)(?:(?:basic|bearer|token)\s+)?[^\s'\"]+", re.I),
        rf"\g<1>{MASK}",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), MASK),
)


def mask_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Mask the secrets in a text.

    These are user names and passwords in URLs, parameters of URLs and of connection strings that are named like secrets
    (signature, token, password ...), headers of authorization, and the values of environment variables that are named
    like secrets, or that hold a URL with a password, wherever and however quoted they stand.

    Args:
        text: Any text.
        environment: Environment variables; by default those of this process.

    Returns:
        The text with ``MASK`` in place of each secret; the same text if there is none.
    """
    known = os.environ if environment is None else environment
    for secret in _known_secrets(tuple(sorted(_telling(known)))):
        text = text.replace(secret, MASK)
    if "=" in text or "://" in text or "uthorization" in text or "IA" in text:
        for pattern, masked in _PATTERNS:
            text = pattern.sub(masked, text)
    return text


def has_credentials(uri: str) -> bool:
    """Return True if a text is a URI with a user name or a password before its host."""
    scheme, separator, rest = uri.partition("://")
    plain = f"{scheme}://{rest}"
    return bool(separator) and re.fullmatch(r"[A-Za-z][\w+.\-]*", scheme) is not None and plain != _without_user(plain)


def _without_user(uri: str) -> str:
    for pattern, masked in _PATTERNS[:2]:
        uri = pattern.sub(masked, uri)
    return uri


def _telling(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of variables that are named like secrets, and the passwords in the URLs of all others."""
    for name, value in environment.items():
        if _VARIABLE.search(name) and not name.endswith(("_FILE", "_PATH", "_DIR")):
            yield value
        elif "://" in value and "@" in value:
            for url in _URL_IN_VARIABLE.findall(value):
                user = url.partition("://")[2].rpartition("@")[0]
                if user:
                    yield user
                    yield user.partition(":")[2]


@lru_cache(maxsize=8)
def _known_secrets(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return every spelling of each value that is long enough, the longest first."""
    spelled: set[str] = set()
    for value in values:
        for plain in {value, unquote(value)}:
            if len(plain) >= MIN_LENGTH:
                encoded = base64.b64encode(plain.encode("utf-8", "replace")).decode()
                quoted = {quote(plain), quote(plain, safe=""), quote_plus(plain), repr(plain)[1:-1]}
                spelled |= {plain, encoded, *quoted}
    return tuple(sorted(spelled, key=lambda secret: (-len(secret), secret)))
