"""Tables as spreadsheets in Japan and Germany write them: read as they were meant, or refused with what to set."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ravan.data.encodings import settle_encoding
from ravan.data.source import DataSource, Encoding, TableFormat
from ravan.data.texts import TextExamples, read_texts
from ravan.errors import DataError, ErrorReason

GERMAN = "text,label\nTür schließt nicht – Öl läuft aus,Kühlung\n"
JAPANESE = "text,label\n油圧ポンプから異音がする。,ポンプ\n"
LABELS = ("Kühlung", "ポンプ")

WAYS = [
    (GERMAN, "utf-8", Encoding.AUTO),
    (GERMAN, "utf-8-sig", Encoding.AUTO),
    (GERMAN, "utf-8-sig", Encoding.UTF_8),
    (GERMAN, "utf-16", Encoding.AUTO),
    (GERMAN, "cp1252", Encoding.WINDOWS_1252),
    (GERMAN.replace("–", "-"), "latin-1", Encoding.LATIN_1),
    (GERMAN.replace("–", "-"), "latin-1", Encoding.WINDOWS_1252),
    (JAPANESE, "utf-8", Encoding.AUTO),
    (JAPANESE, "utf-8-sig", Encoding.AUTO),
    (JAPANESE, "utf-16", Encoding.UTF_16),
    (JAPANESE, "cp932", Encoding.CP932),
]


def read(path: Path, content: bytes, encoding: Encoding = Encoding.AUTO) -> TextExamples:
    path.write_bytes(content)
    return read_texts(DataSource(path=path, name="orders.csv", encoding=encoding), LABELS)


def refusal(path: Path, content: bytes, encoding: Encoding = Encoding.AUTO) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, content, encoding)
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE
    return caught.value


@pytest.mark.parametrize(("content", "codec", "encoding"), WAYS)
def test_text_is_read_as_it_was_meant(tmp_path: Path, content: str, codec: str, encoding: Encoding) -> None:
    examples = read(tmp_path / "orders", content.encode(codec), encoding)
    assert examples.texts == (content.splitlines()[1].split(",")[0],)


@pytest.mark.parametrize(
    ("content", "codec", "offered"),
    [
        (GERMAN, "cp1252", "windows-1252"),
        (JAPANESE, "cp932", "cp932"),
        (GERMAN.replace("–", "-"), "latin-1", "latin-1"),
    ],
)
def test_what_bytes_do_not_tell_is_named_with_what_to_set(
    tmp_path: Path, content: str, codec: str, offered: str
) -> None:
    error = refusal(tmp_path / "orders", content.encode(codec))
    assert str(error).startswith("orders.csv, line 2, is not UTF-8")
    assert f'encoding = "{offered}"' in error.next_step


def test_an_encoding_that_does_not_fit_is_not_offered(tmp_path: Path) -> None:
    # 0x81 begins a comma in Japanese Windows; in the Western European one it is no character.
    assert "windows-1252" not in refusal(tmp_path / "orders", "text,label\n、,x\n".encode("cp932")).next_step
    # 0x84 is a quotation mark in Windows and nothing that is printed in Latin-1.
    assert "latin-1" not in refusal(tmp_path / "orders", "text,label\n„x“,y\n".encode("cp1252")).next_step


@pytest.mark.parametrize("encoding", [Encoding.CP932, Encoding.WINDOWS_1252, Encoding.LATIN_1])
@pytest.mark.parametrize("content", [GERMAN, JAPANESE])
def test_utf_8_is_not_taken_for_something_else(tmp_path: Path, content: str, encoding: Encoding) -> None:
    error = refusal(tmp_path / "orders", content.encode(), encoding)
    assert str(error) == "orders.csv is UTF-8, but another encoding is set for it."
    assert error.next_step == 'Set encoding = "utf-8".'


@pytest.mark.parametrize(("codec", "told"), [("utf-8-sig", "utf-8"), ("utf-16", "utf-16")])
def test_a_byte_order_mark_speaks_against_what_is_set(tmp_path: Path, codec: str, told: str) -> None:
    error = refusal(tmp_path / "orders", GERMAN.encode(codec), Encoding.CP932)
    assert str(error).startswith(f"orders.csv begins with the byte order mark of {told}")


@pytest.mark.parametrize(
    ("content", "encoding"),
    [(GERMAN.encode("cp1252"), Encoding.UTF_8), (b"text,label\nx,y\n\x81\xff,z\n", Encoding.CP932)],
)
def test_bytes_that_the_set_encoding_has_not_are_named_with_their_line(
    tmp_path: Path, content: bytes, encoding: Encoding
) -> None:
    assert f"line {1 + content[: content.rindex(b',')].count(10)}," in str(
        refusal(tmp_path / "orders", content, encoding)
    )


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_with_its_mark_alone(tmp_path: Path, codec: str) -> None:
    # A character with a byte of 10 in it, which is no line break.
    content = "text,label\n\u4e0a,x\nhose,x\n".encode(codec)
    for encoding in (Encoding.AUTO, Encoding.UTF_16):
        if codec == "utf-16":
            cut = refusal(tmp_path / "orders", content[:-1], encoding)
            assert str(cut) == "orders.csv, line 3, is not in the encoding utf-16."
        else:
            refusal(tmp_path / "orders", content, encoding)
    assert "no byte order mark" in str(refusal(tmp_path / "orders", b"text,label\nhose,x\n", Encoding.UTF_16))


def test_a_mark_of_utf_8_does_not_make_it_sound(tmp_path: Path) -> None:
    error = refusal(tmp_path / "orders", codecs.BOM_UTF8 + GERMAN.encode("cp1252"))
    assert str(error) == "orders.csv, line 2, is not in the encoding utf-8."


def test_japanese_mail_is_not_taken_for_plain_letters(tmp_path: Path) -> None:
    content = JAPANESE.encode("iso2022_jp")
    assert content.isascii()
    for encoding in (Encoding.AUTO, Encoding.CP932, Encoding.LATIN_1):
        assert "ISO-2022-JP" in str(refusal(tmp_path / "orders", content, encoding))


def test_a_wrong_byte_far_inside_is_found_before_the_first_row(tmp_path: Path) -> None:
    rows = 90_000
    content = b"text,label\n" + b"hose is leaking,x\n" * rows + "für,x\n".encode("cp1252")
    assert len(content) > 1 << 20
    assert str(refusal(tmp_path / "orders", content)).startswith(f"orders.csv, line {rows + 2}, is not UTF-8")


def test_json_lines_follow_the_same_rules(tmp_path: Path) -> None:
    line = '{"text": "Tür", "label": "Kühlung"}\n'
    for content, encoding in [
        (codecs.BOM_UTF8 + line.encode(), Encoding.AUTO),
        (line.encode("cp1252"), Encoding.WINDOWS_1252),
    ]:
        (tmp_path / "a").write_bytes(content)
        source = DataSource(path=tmp_path / "a", name="a", format=TableFormat.JSONL, encoding=encoding)
        assert read_texts(source, LABELS).texts == ("Tür",)


CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc"])


@given(st.text(CHARACTERS, max_size=40), st.sampled_from(WAYS))
def test_whatever_is_accepted_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, text: str, way: tuple[str, str, Encoding]
) -> None:
    _, codec, encoding = way
    try:
        content = text.encode(codec)
    except UnicodeEncodeError:
        assume(False)
    path = tmp_path_factory.mktemp("encodings") / "a"
    path.write_bytes(content)
    try:
        settled = settle_encoding("a", lambda: path.open("rb"), encoding)
    except DataError:
        return
    assert content.decode(settled).removeprefix("\ufeff") == text.removeprefix("\ufeff")
