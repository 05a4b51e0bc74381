"""Reading labelled images from folders and zip files: what is read, left out and refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import bilevel_png, plain_image, write_folder, write_zip

from ravan.data.images import ImageExamples, iterate_images, read_images
from ravan.data.source import DataSource
from ravan.errors import DataError, ErrorReason

LABELS = ("worn", "sound")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
FILES = {
    "worn/b.png": plain_image(RED),
    "worn/a.jpg": plain_image(GREEN, (9, 5), "JPEG"),
    "sound/deep/sound/c.BMP": plain_image(BLUE, (2, 8), "BMP"),
    "sound/notes.txt": b"not asked for",
    "readme.md": b"nor this",
}
WRITERS: tuple[Callable[[Path, Mapping[str, bytes]], Path], ...] = (write_folder, write_zip)


def read(path: Path, side: int = 4) -> ImageExamples:
    return read_images(DataSource(path=path, name="photos"), LABELS, side)


def legible(path: Path) -> list[tuple[str, bool]]:
    found = iterate_images(DataSource(path=path, name="photos"), 1)
    return [(file.label, pixels is not None) for file, pixels in found]


def refusal(path: Path, reason: ErrorReason) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.reason is reason
    assert caught.value.next_step
    return caught.value


@pytest.mark.parametrize("write", WRITERS)
def test_images_are_read_in_the_order_of_their_names_and_scaled(
    tmp_path: Path, write: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    examples = read(write(tmp_path / "photos", FILES), side=3)
    assert (examples.label_ids, examples.left_out, len(examples)) == ((1, 0, 0), 0, 3)
    assert examples.pixels.shape == (3, 3, 3, 3)
    assert examples.pixels.dtype == np.uint8
    # JPEG is not exact, the others are.
    np.testing.assert_array_equal(examples.pixels[0], np.full((3, 3, 3), BLUE))
    np.testing.assert_allclose(examples.pixels[1].astype(int), np.full((3, 3, 3), GREEN), atol=3)
    np.testing.assert_array_equal(examples.pixels[2], np.full((3, 3, 3), RED))


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(
        st.builds("{}/{}".format, st.sampled_from(LABELS), st.from_regex(r"[a-z]{1,6}\.(png|PNG|txt)", fullmatch=True)),
        st.one_of(st.just(b"broken"), st.tuples(*[st.integers(0, 255)] * 3).map(plain_image)),
        min_size=1,
    )
)
def test_a_folder_and_its_zip_file_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    place = tmp_path_factory.mktemp("photos")
    found: list[object] = []
    for write in WRITERS:
        path = write(place / write.__name__, files)
        try:
            examples = read(path)
        except DataError as error:
            found.append((error.reason, str(error)))
        else:
            found.append((examples.pixels.tolist(), examples.label_ids, examples.left_out))
        found.append(legible(path))
    assert found[:2] == found[2:]


def test_a_folder_that_is_called_like_an_image_is_none(tmp_path: Path) -> None:
    files = {"worn/a.png/worn/b.png": plain_image(RED)}
    for write in WRITERS:
        examples = read(write(tmp_path / write.__name__, files))
        assert (examples.label_ids, examples.left_out) == ((0,), 0)


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_that_is_no_label_is_named_with_the_nearest(
    tmp_path: Path, write: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    path = write(tmp_path / "photos", {**FILES, "sund/d.png": b"never decoded"})
    error = refusal(path, ErrorReason.DATA_UNKNOWN_LABEL)
    assert str(error) == "photos, sund/d.png, has the label 'sund', which the job does not know."
    assert error.next_step.startswith("Did you mean 'sound'? The job's labels are: worn, sound.")


@pytest.mark.parametrize("write", WRITERS)
def test_an_image_outside_all_folders_has_no_label(
    tmp_path: Path, write: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    error = refusal(write(tmp_path / "photos", {"a.png": plain_image(RED)}), ErrorReason.DATA_UNKNOWN_LABEL)
    assert str(error) == "photos, a.png, has no label."


BROKEN = {
    "empty": b"",
    "text": b"this is no image",
    "cut": plain_image(RED, (64, 64))[:60],
    # Sound, but of a kind that is not asked for.
    "gif": plain_image(RED, kind="GIF"),
    # More than a hundred million pixels, below and above the number at which the library itself refuses.
    "bomb": bilevel_png(10_001, 10_000),
    "greater bomb": bilevel_png(20_000, 20_000),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("write", WRITERS)
def test_what_cannot_be_read_is_left_out_and_counted(
    tmp_path: Path, write: Callable[[Path, Mapping[str, bytes]], Path], content: bytes
) -> None:
    path = write(tmp_path / "photos", {"worn/a.png": plain_image(RED), "sound/b.png": content})
    examples = read(path)
    assert (examples.label_ids, examples.left_out) == ((0,), 1)
    assert legible(path) == [("sound", False), ("worn", True)]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_above_the_limit_is_left_out_though_it_is_sound(
    tmp_path: Path, write: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    # 4800 x 4800 pixels of three bytes are more than 64 MiB; the zip file of it has some kilobytes.
    large = plain_image(RED, (4800, 4800), "BMP")
    assert len(large) > 64 << 20
    examples = read(write(tmp_path / "photos", {"worn/a.png": plain_image(RED), "sound/b.bmp": large}))
    assert (examples.label_ids, examples.left_out) == ((0,), 1)


def test_an_entry_that_is_longer_than_it_says_is_left_out(tmp_path: Path) -> None:
    image = plain_image(RED)
    path = write_zip(tmp_path / "photos", {"worn/a.png": image, "sound/b.png": plain_image(GREEN)})
    content = path.read_bytes()
    # The uncompressed size stands 24 bytes into the entry's record in the directory at the end.
    at = content.rindex(b"PK\1\2") + 24
    path.write_bytes(content[:at] + (5).to_bytes(4, "little") + content[at + 4 :])
    examples = read(path)
    assert (examples.label_ids, examples.left_out) == ((0,), 1)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("files", [{"worn/a.png": b"broken"}, {"worn/a.txt": b"text"}], ids=["broken", "none"])
def test_no_image_at_all_is_refused(
    tmp_path: Path, write: Callable[[Path, Mapping[str, bytes]], Path], files: dict[str, bytes]
) -> None:
    error = refusal(write(tmp_path / "photos", files), ErrorReason.DATA_UNREADABLE)
    assert str(error).startswith("photos holds no image that can be read (.bmp, .jpeg, .jpg, .png")


def test_strange_names_in_a_zip_file_are_labels_and_nothing_else(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    names = ("../worn/a.png", "/worn/b.png", "C:\\worn/c.png", "worn/../sound/d.png", "worn/e\0.png", "./worn/f.png")
    image = plain_image(RED)
    path = write_zip(inner / "photos.zip", {name.replace("\0", "?"): image for name in names[:3:2]})
    with pytest.raises(DataError, match="which the job does not know"):
        read(path)
    path = write_zip(path, {name: image for name in names if not name.startswith("C:")})
    before = sorted(tmp_path.rglob("*"))
    examples = read(path)
    assert (set(examples.label_ids), len(examples)) == ({0, 1}, 4)
    assert sorted(tmp_path.rglob("*")) == before == [inner, path]


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    for write in WRITERS:
        path = write(tmp_path / write.__name__, {"sund/\x1b[2J.png": plain_image(RED)})
        sentence = str(refusal(path, ErrorReason.DATA_UNKNOWN_LABEL))
        assert sentence.isprintable()
        assert "[2J.png" in sentence


def test_a_name_that_is_no_text_can_be_told_of(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "photos", {"sund/\udcff.png": plain_image(RED)})
    str(refusal(path, ErrorReason.DATA_UNKNOWN_LABEL)).encode()


@pytest.mark.parametrize(
    "content", [b"", b"text,label\nhose,worn\n", b"PK\3\4" + bytes(60)], ids=["empty", "csv", "cut"]
)
def test_what_is_neither_folder_nor_zip_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photos").write_bytes(content)
    error = refusal(tmp_path / "photos", ErrorReason.DATA_UNREADABLE)
    assert str(error) == "photos is neither a folder nor a sound zip file."


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in str(refusal(tmp_path / "nowhere", ErrorReason.DATA_UNREADABLE))


def test_an_encrypted_entry_is_left_out(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos", {"worn/a.png": plain_image(RED), "sound/b.png": plain_image(GREEN)})
    content = bytearray(path.read_bytes())
    # Bit 0 of the flags: 6 bytes into the entry itself, 8 into its record in the directory.
    content[content.rindex(b"PK\3\4") + 6] |= 1
    content[content.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    examples = read(path)
    assert (examples.label_ids, examples.left_out) == ((0,), 1)


def bytes_are_read_or_refused(place: Path, content: bytes) -> None:
    path = place / "photos"
    path.write_bytes(content)
    reason, count = None, 0
    try:
        count = len(read(path))
    except DataError as error:
        reason = error.reason
        str(error).encode()
    assert (reason is None) == (count > 0)
    assert reason in {None, ErrorReason.DATA_UNREADABLE, ErrorReason.DATA_UNKNOWN_LABEL}


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_a_reason(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    bytes_are_read_or_refused(tmp_path_factory.mktemp("garbage"), content)


@given(st.data())
def test_a_damaged_zip_file_is_read_or_refused_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("damaged")
    sound = write_zip(place / "sound", {"worn/a.png": plain_image(RED), "sound/b.jpg": plain_image(BLUE, kind="JPEG")})
    content = bytearray(sound.read_bytes())
    for position in data.draw(st.sets(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    bytes_are_read_or_refused(place, bytes(content[: data.draw(st.integers(1, len(content)))]))


def test_a_zip_file_with_an_entry_of_another_method_is_read(tmp_path: Path) -> None:
    path = tmp_path / "photos"
    with zipfile.ZipFile(path, "w") as archive:
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            archive.writestr(f"worn/{method}.png", plain_image(RED), method)
    assert read(path).label_ids == (0, 0, 0, 0)
