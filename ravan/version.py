"""Version of the product and of the protocol it speaks."""

from typing import Final

VERSION: Final = "0.1.0"
"""Release of the three packages; `pyproject.toml` reads it from here."""

PROTOCOL_VERSION: Final = 1
"""Version written into every signed document; a peer refuses any other."""
