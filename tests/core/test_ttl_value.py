"""Which items TTL deletes, by their attribute's value."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.ttl import will_be_deleted

NOW_MS = 1_795_435_200_500
NOW = NOW_MS // 1000
YEAR = 365 * 86_400


@pytest.mark.parametrize(
    ("value", "deleted"),
    [
        ({"N": str(NOW - 1)}, True),
        ({"N": str(NOW)}, True),
        ({"N": str(NOW + 1)}, False),
        ({"N": str(NOW - 5 * YEAR + 86_400)}, True),
        ({"N": str(NOW - 6 * YEAR)}, False),
        ({"N": "1"}, False),
        ({"N": "0"}, False),
        ({"N": "-1"}, False),
        ({"N": f"-{NOW - 1}"}, False),
        ({"N": str(NOW_MS - 1)}, False),  # milliseconds: in the year 58,864
        ({"N": str(NOW * 10**9)}, False),  # nanoseconds
        ({"N": str((NOW - 60) // 1000)}, False),  # divided once too often: in 1970
        ({"N": f"{NOW - 1}.5"}, True),
        ({"N": f"{NOW}.75"}, False),
        ({"N": f"{(NOW - 1) / 10**9:.9f}E9"}, True),
        ({"N": "9.9999999999999999999999999999999999999E+125"}, False),
        ({"N": "1E-130"}, False),
        ({"N": "1E+999999"}, False),
        ({"N": "NaN"}, False),
        ({"N": "Infinity"}, False),
        ({"N": "1_000"}, False),
        ({"N": ""}, False),
        ({"S": str(NOW - 1)}, False),
        ({"NULL": True}, False),
        ({"L": [{"N": str(NOW - 1)}]}, False),
        ({"M": {"expires": {"N": str(NOW - 1)}}}, False),
        ({"NS": [str(NOW - 1)]}, False),
        ({"N": NOW - 1}, False),
        (None, False),
    ],
)
def test_only_a_number_of_seconds_of_the_last_five_years_deletes_an_item(value: Any, deleted: bool) -> None:
    assert will_be_deleted({"pk": {"S": "k"}, "expires": value}, "expires", NOW_MS) is deleted


def test_an_item_without_the_attribute_stays() -> None:
    assert not will_be_deleted({"pk": {"S": "k"}, "Expires": {"N": str(NOW - 1)}}, "expires", NOW_MS)


@given(st.text(alphabet="0123456789.eE+-_ nNaAiIfF", max_size=12) | st.text(max_size=8))
def test_no_text_of_a_number_is_too_odd(text: str) -> None:
    assert will_be_deleted({"expires": {"N": text}}, "expires", NOW_MS) in (True, False)
