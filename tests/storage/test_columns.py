"""Names of count columns: written and read in one place, whatever stands in the name of a tensor."""

import pytest

from spikeattn.storage import columns


@pytest.mark.parametrize("name", ["lif", "blocks.0.attn:a", "a:b:c", "1", "pred", "x:2"])
def test_a_count_is_read_as_it_was_written(name: str) -> None:
    column = columns.count("fan_nnz", name, 12)
    assert columns.counted(column) == ("fan_nnz", name, 12)
    assert columns.counted(column).key == ("fan_nnz", name)
    assert columns.predicted(column) is None


def test_what_identifies_an_image_counts_nothing() -> None:
    assert [columns.counted(name) for name in (*columns.IMAGE, columns.prediction(3))] == [None] * 4
    assert columns.predicted(columns.prediction(3)) == 3
    assert [columns.predicted(name) for name in columns.IMAGE] == [None] * 3


def test_the_names_of_the_first_edition_are_read() -> None:
    assert columns.counted("nnz:block.0.attn.q_lif:4") == ("nnz", "block.0.attn.q_lif", 4)
    assert columns.count("nnz", "block.0.attn.q_lif", 4) == "nnz:block.0.attn.q_lif:4"
    assert columns.prediction(1) == "pred:1"
