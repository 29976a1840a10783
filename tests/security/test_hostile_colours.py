"""A file of colours that somebody else made, or damaged."""

import json

import pytest

from prompts.parts.colour_files import read_colours, read_found


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2]",
        "{}",
        '{"colours": [1]}',
        '{"colours": {"red": [1, 2, 3]}}',
        '{"colours": {"red": [1, 2, 3, 256]}}',
        '{"colours": {"red": [1, 2, 3, true]}}',
        '{"colours": {"red": [1, 2, 3, NaN]}}',
        '{"colours": {"red": [1, 2, 3, 1e999]}}',
        '{"colours": {"red": [1, 2, 3, "4"]}}',
        '{"colours": {"red": "_target_"}}',
        '{"colours": {"\\u001b[2J": [1, 2, 3, 4]}}',
        '{"colours": {"": [1, 2, 3, 4]}}',
        '{"colours": {"red": [1, 2, 3, 4], "red": [1, 2, 3, 4]}}',
        json.dumps({"colours": {"x" * 500: [1, 2, 3, 4]}}),
        json.dumps({"colours": {str(i): [1, 2, 3, 4] for i in range(5000)}}),
        "[" * 100_000,
    ],
    ids=lambda content: content[:40],
)
def test_hostile_files_of_colours_are_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "colours.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"colour|JSON") as caught:
        read_found(path)
    assert len(str(caught.value)) < 1000
    assert "\x1b" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="colours"):
        read_colours(tmp_path / "nothing.json")
