"""Addresses of PostgreSQL databases as configurations hold them: without a password, since those get shown around."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_url(url: str) -> str:
    """Return an address, which may be empty; raise ValueError for one that is none or has a password in it."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        raise ValueError("this is no address; it looks like postgresql://USER@HOST:PORT/NAME") from None
    if url and (parts.scheme != "postgresql" or not parts.path.strip("/")):
        raise ValueError("an address looks like postgresql://USER@HOST:PORT/NAME")
    if password is not None or "password=" in parts.query:
        raise ValueError("no password may stand here; put it into a file of its own and name that in password_file")
    return url
