"""Images whose labels a CSV file lists, in a folder or its zip file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from image_files import plain_image, write_folder, write_zip

from ravan.data.images import ImageExamples, read_images
from ravan.data.source import DataSource, Encoding
from ravan.data.stamp import read_stamp
from ravan.errors import DataError, ErrorReason

Write = Callable[[Path, Mapping[str, bytes]], Path]
LABELS = ("worn", "sound", "傷")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
IMAGES = {
    "a.png": plain_image(RED),
    "day 2/b.png": plain_image(GREEN),
    "day 2/c.png": plain_image(BLUE),
    "not listed.png": b"never decoded",
}
LIST = "file;state\nday 2\\c.png;worn\n./a.png; sound \n"


@pytest.fixture(params=[write_folder, write_zip])
def write(request: pytest.FixtureRequest) -> Write:
    made: Write = request.param
    return made


def source(path: Path, **keys: object) -> DataSource:
    return DataSource(**{"path": path, "name": "photos", "labels": "labels.csv", "label": "state", **keys})  # type: ignore[arg-type]


def read(path: Path, **keys: object) -> ImageExamples:
    return read_images(source(path, **keys), LABELS, 1)


def colours(examples: ImageExamples) -> list[tuple[int, ...]]:
    return [tuple(map(int, pixels[0, 0])) for pixels in examples.pixels]


def test_images_come_in_the_order_of_the_list(tmp_path: Path, write: Write) -> None:
    examples = read(write(tmp_path / "photos", {**IMAGES, "labels.csv": LIST.encode()}))
    assert (colours(examples), examples.label_ids, examples.left_out) == ([BLUE, RED], (0, 1), 0)


def test_a_japanese_list_with_columns_of_its_own(tmp_path: Path, write: Write) -> None:
    content = "画像,判定\na.png,傷\n".encode("cp932")
    path = write(tmp_path / "photos", {**IMAGES, "l/x.csv": content})
    examples = read(path, labels="l/x.csv", file="画像", label="判定", encoding=Encoding.CP932)
    assert examples.label_ids == (2,)


def test_what_is_not_there_is_left_out_and_nothing_else_is_opened(tmp_path: Path, write: Write) -> None:
    write_folder(tmp_path, {"secret.png": plain_image(GREEN)})
    names = ("../secret.png", str(tmp_path / "secret.png"), "nowhere.png", "labels.csv", "", "day 2")
    listing = "file,state\n" + "".join(f"{name},worn\n" for name in names) + "a.png,worn\n"
    examples = read(write(tmp_path / "photos", {**IMAGES, "labels.csv": listing.encode()}))
    assert (colours(examples), examples.left_out) == ([RED], len(names))


@pytest.mark.parametrize(
    ("listing", "reason", "sentence"),
    [
        (
            "file,state\na.png,sund\n",
            ErrorReason.DATA_UNKNOWN_LABEL,
            "photos, labels.csv, line 2, has the label 'sund'",
        ),
        ("file,state\na.png,\n", ErrorReason.DATA_UNKNOWN_LABEL, "photos, labels.csv, line 2, has no label"),
        ("image,state\na.png,worn\n", ErrorReason.DATA_UNREADABLE, "photos, labels.csv has no column 'file' in line 1"),
        ("file,state\na.png\n", ErrorReason.DATA_UNREADABLE, "photos, labels.csv, line 2, has 1 cells"),
        ("file,state\nnowhere.png,worn\n", ErrorReason.DATA_UNREADABLE, "photos holds no image that can be read"),
        ("", ErrorReason.DATA_UNREADABLE, "photos, labels.csv holds no row"),
    ],
)
def test_a_faulty_list_is_told_with_its_line(
    tmp_path: Path, write: Write, listing: str, reason: ErrorReason, sentence: str
) -> None:
    path = write(tmp_path / "photos", {**IMAGES, "labels.csv": listing.encode()})
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.reason is reason
    assert str(caught.value).startswith(sentence)


def test_a_list_that_is_not_there(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match=r"photos, labels\.csv cannot be opened: No such file"):
        read(write(tmp_path / "photos", IMAGES))


def test_a_changed_list_changes_the_stamp(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / "photos", {**IMAGES, "labels.csv": LIST.encode()})
    before = read_stamp(source(path))
    assert read_stamp(source(path)) == before
    write(path, {**IMAGES, "labels.csv": LIST.encode() + b"a.png;worn\n"})
    assert read_stamp(source(path)) != before
