"""In which encoding a text file is written, where its bytes can tell.

A byte order mark and sound UTF-8 can hardly be an accident. All else is not guessed: most files in Windows' Japanese
encoding are sound in the Western European one as well and mean nothing there, and nobody would notice before the model
had learnt them.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from ravan.data.source import Encoding, unreadable
from ravan.errors import DataError

OpenBytes = Callable[[], BinaryIO]
"""Opens the file anew, at its start; raises OSError."""

_BLOCK: Final = 1 << 20
_MARKS: Final = (
    (codecs.BOM_UTF8, Encoding.UTF_8),
    (codecs.BOM_UTF16_LE, Encoding.UTF_16),
    (codecs.BOM_UTF16_BE, Encoding.UTF_16),
)
_CODECS: Final = {
    Encoding.UTF_8: "utf-8-sig",
    Encoding.UTF_16: "utf-16",
    Encoding.CP932: "cp932",
    Encoding.WINDOWS_1252: "cp1252",
    Encoding.LATIN_1: "latin-1",
}
_SPOKEN_OF: Final = {
    Encoding.CP932: "Japanese Windows",
    Encoding.WINDOWS_1252: "Western European Windows",
    Encoding.LATIN_1: "Western European",
}
_ESCAPES: Final = (b"\x1b$B", b"\x1b$@")
"""How ISO-2022-JP begins Japanese text; all of its bytes are sound UTF-8."""
_UNUSED: Final = range(0x80, 0xA0)
"""Bytes that are control characters in Latin-1; where they occur, the file is in something else."""


def settle_encoding(name: str, open_bytes: OpenBytes, wanted: Encoding) -> str:
    """Return the codec to read a file with.

    Raise DataError DATA_UNREADABLE, with the encodings that it might be in, for one whose bytes do not tell, and for
    one that is not in the encoding that is wanted of it. Raise OSError.
    """
    with open_bytes() as file:
        start = file.read(4)
    mark = next((encoding for sign, encoding in _MARKS if start.startswith(sign)), None)
    if mark is not None and wanted not in (Encoding.AUTO, mark):
        raise _otherwise(name, f"begins with the byte order mark of {mark}", mark)
    encoding = mark or (Encoding.UTF_8 if wanted is Encoding.AUTO else wanted)
    if mark is None:
        _refuse_what_has_no_mark(name, open_bytes, encoding)
    line = _first_wrong_line(open_bytes, encoding)
    if line and mark is None and encoding is Encoding.UTF_8:
        raise _unknown(name, line, open_bytes)
    if line:
        raise unreadable(
            f"{name}, line {line}, is not in the encoding {encoding}.", f"Save it as UTF-8. {_offer(open_bytes)}"
        )
    return _CODECS[encoding]


def _refuse_what_has_no_mark(name: str, open_bytes: OpenBytes, encoding: Encoding) -> None:
    _refuse_escapes(name, open_bytes)
    if encoding is Encoding.UTF_16:
        raise unreadable(
            f"{name} has no byte order mark, which UTF-16 begins with.", f"Save it as UTF-8. {_offer(open_bytes)}"
        )
    if encoding is Encoding.UTF_8 or not _is_beyond_ascii(open_bytes):
        return
    if not _first_wrong_line(open_bytes, Encoding.UTF_8):
        raise _otherwise(name, "is UTF-8", Encoding.UTF_8)


def _blocks(open_bytes: OpenBytes) -> Iterator[bytes]:
    with open_bytes() as file:
        while block := file.read(_BLOCK):
            yield block


def _is_beyond_ascii(open_bytes: OpenBytes) -> bool:
    return not all(block.isascii() for block in _blocks(open_bytes))


def _refuse_escapes(name: str, open_bytes: OpenBytes) -> None:
    before = b""
    for block in _blocks(open_bytes):
        seen = before + block
        if any(escape in seen for escape in _ESCAPES):
            raise unreadable(f"{name} is in the encoding ISO-2022-JP, which is not read.", "Save it as UTF-8.")
        before = block[-2:]


def _first_wrong_line(open_bytes: OpenBytes, encoding: Encoding) -> int:
    """Return the line of the first byte that the encoding has not; 0 when all are sound."""
    decoder = codecs.getincrementaldecoder(_CODECS[encoding])()
    line = 1
    try:
        for block in _blocks(open_bytes):
            if encoding is Encoding.LATIN_1 and any(byte in block for byte in _UNUSED):
                return line + block[: min(block.find(byte) for byte in _UNUSED if byte in block)].count(b"\n")
            line += decoder.decode(block).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        # A byte of 10 is a line break, but for UTF-16, where it is part of many characters.
        sound = error.object[: error.start]
        is_wide = encoding is Encoding.UTF_16
        return line + (sound.decode(error.encoding, "replace").count("\n") if is_wide else sound.count(b"\n"))
    return 0


def _unknown(name: str, line: int, open_bytes: OpenBytes) -> DataError:
    return unreadable(
        f"{name}, line {line}, is not UTF-8 text, and bytes alone do not tell which other encoding it is in.",
        f"Save it as UTF-8; spreadsheets offer 'CSV UTF-8'. {_offer(open_bytes)}",
    )


def _offer(open_bytes: OpenBytes) -> str:
    """Say what may stand under `encoding`."""
    fitting = [each for each in _SPOKEN_OF if not _first_wrong_line(open_bytes, each)]
    shown = " or ".join(f'encoding = "{each}" ({_SPOKEN_OF[each]})' for each in fitting)
    return f"Or set {shown}, whichever it was written in." if shown else "No encoding that can be set here fits it."


def _otherwise(name: str, finding: str, encoding: Encoding) -> DataError:
    return unreadable(f"{name} {finding}, but another encoding is set for it.", f'Set encoding = "{encoding}".')
