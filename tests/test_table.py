import json
import math
import sys

import numpy as np
import pytest

from intel_scenes.errors import UserError
from intel_scenes.table import Table

ROWS = [("sea", 1, 0.5, True), ("forest", 2, None, False), (None, 3, 2, True)]


@pytest.fixture
def table() -> Table:
    return Table.of_rows(("name", "count", "share", "is_right"), ROWS)


def test_a_column_has_the_type_of_its_values(table: Table) -> None:
    assert [table[name].dtype for name in table.names] == [object, np.int64, np.float64, np.bool_]
    assert table["name"].tolist() == ["sea", "forest", None]
    assert math.isnan(table["share"][1])
    assert len(table) == 3


def test_rows_are_plain_values_that_json_holds(table: Table) -> None:
    rows = list(table.rows())
    assert rows[1] == {"name": "forest", "count": 2, "share": None, "is_right": False}
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_nobody_can_write_to_a_column(table: Table) -> None:
    with pytest.raises(ValueError, match="read-only"):
        table["count"][0] = 7


def test_pandas_has_the_same_columns_and_may_write_to_them(table: Table) -> None:
    pandas = pytest.importorskip("pandas")
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["count"].sum() == 6
    assert frame["share"].isna().tolist() == [False, True, False]
    frame.loc[0, "count"] = 7
    assert table["count"][0] == 1


def test_without_pandas_a_sentence_says_what_to_install(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"^to_pandas\(\) needs pandas: pip install 'intel-scenes\[pandas\]'$"):
        table.to_pandas()


def test_a_notebook_shows_the_first_rows_escaped() -> None:
    page = Table.of_rows(("name",), [("<script>",)] * 25)._repr_html_()
    assert page.count("&lt;script&gt;") == 20
    assert "<script>" not in page
    assert "and 5 more rows" in page
