"""Examples without labels: each keeps its place, and what cannot be asked says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import plain_image, write_folder, write_zip
from task_settings import settings_of

from ravan.data.images import ImageExamples
from ravan.data.series import SeriesExamples, Window, read_series
from ravan.data.source import DataSource
from ravan.data.texts import AnswerExamples, TextExamples
from ravan.data.unlabelled import NO_IMAGE, NO_TEXT, read_questions
from ravan.errors import DataError
from ravan.manifest.plan import Task

TEXTS = settings_of(Task.SEQUENCE_CLASSIFICATION)
ANSWERS = settings_of(Task.CAUSAL_LM)
IMAGES = settings_of(Task.IMAGE_CLASSIFICATION, image_side=4)
SERIES = settings_of(Task.SERIES_CLASSIFICATION, channels=("oil", "rpm"), max_length=3, window_step=2)


def source(path: Path, **columns: str) -> DataSource:
    return DataSource(path=path, name=path.name, **columns)  # type: ignore[arg-type] # names of columns alone


def test_texts_need_no_label_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\nhose burst\n \n\nleak\n")
    found = read_questions(source(path), TEXTS)
    assert isinstance(found.examples, TextExamples)
    assert found.examples.texts == ("hose burst", "leak")
    assert found.places == ("2", "3", "5")
    assert found.faults == {1: NO_TEXT}


def test_labels_that_the_job_does_not_know_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nhose,what\n")
    found = read_questions(source(path), ANSWERS)
    assert isinstance(found.examples, AnswerExamples)
    assert found.examples.texts == ("hose",)


def test_nothing_but_blank_texts_asks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,other\n,x\n ,y\n")
    found = read_questions(source(path), TEXTS)
    assert found.examples is None
    assert found.faults == {0: NO_TEXT, 1: NO_TEXT}


@pytest.mark.parametrize("packed", [False, True])
def test_images_of_a_folder_or_zip_file_by_name(tmp_path: Path, packed: bool) -> None:
    files = {"b.png": plain_image((9, 8, 7)), "a/x.png": plain_image((1, 2, 3)), "c.png": b"no image", "note.txt": b""}
    place = write_zip(tmp_path / "a.zip", files) if packed else write_folder(tmp_path / "folder", files)
    found = read_questions(source(place), IMAGES)
    assert isinstance(found.examples, ImageExamples)
    assert found.places == ("a/x.png", "b.png", "c.png")
    assert found.faults == {2: NO_IMAGE}
    assert found.examples.pixels[:, 0, 0].tolist() == [[1, 2, 3], [9, 8, 7]]


def test_one_image_alone(tmp_path: Path) -> None:
    (tmp_path / "part.PNG").write_bytes(plain_image((5, 6, 7)))
    found = read_questions(source(tmp_path / "part.PNG"), IMAGES)
    assert found.places == ("part.PNG",)
    assert isinstance(found.examples, ImageExamples)
    assert found.examples.pixels[0, 0, 0].tolist() == [5, 6, 7]


def test_windows_are_those_that_a_job_cuts_and_stand_at_their_last_row(tmp_path: Path) -> None:
    rows = [(f"m{i % 2}", i, 10 * i) for i in range(12)]
    bare, labelled = tmp_path / "bare.csv", tmp_path / "labelled.csv"
    bare.write_text("machine,oil,rpm\n" + "".join(f"{m},{a},{b}\n" for m, a, b in rows))
    labelled.write_text("machine,oil,rpm,label\n" + "".join(f"{m},{a},{b},cab\n" for m, a, b in rows))
    found = read_questions(source(bare, group="machine"), SERIES)
    learnt = read_series(source(labelled, group="machine"), ("cab", "pump"), ("oil", "rpm"), Window(rows=3, step=2))
    assert isinstance(found.examples, SeriesExamples)
    asked = [found.examples.values[start : start + 3].tolist() for start in found.examples.starts]
    assert asked == [learnt.values[start : start + 3].tolist() for start in learnt.starts]
    # Rows of m0 stand in lines 2, 4, ...: the third of them in line 6, the fifth in line 10.
    assert found.places == ("6", "10", "7", "11")
    assert asked[0] == np.asarray([[0, 0], [2, 20], [4, 40]], np.float32).tolist()


@pytest.mark.parametrize(
    ("name", "content", "training", "sentence"),
    [
        ("a.csv", "words\nhose\n", TEXTS, "no column 'text'"),
        ("a.csv", "text\n", TEXTS, "holds no row"),
        ("a.csv", "oil,rpm\n1,2\n", SERIES, "holds no series of 3 rows"),
        ("a.csv", "oil,rpm\n1,2\n1,x\n3,4\n", SERIES, "no number in 'rpm'"),
        ("a.txt", "no zip file", IMAGES, "neither a folder nor a sound zip file"),
    ],
)
def test_sources_that_cannot_be_read_are_refused(
    tmp_path: Path, name: str, content: str, training: object, sentence: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=sentence):
        read_questions(source(tmp_path / name), training)  # type: ignore[arg-type] # one of the settings above


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for training in (TEXTS, SERIES, IMAGES):
        with pytest.raises(DataError, match="cannot be opened"):
            read_questions(source(tmp_path / "missing.csv"), training)
    with pytest.raises(DataError, match="holds no image"):
        read_questions(source(tmp_path), IMAGES)
