"""Names that are a file's on every system."""

import pytest

from LoraModel.messages import UserError
from LoraModel.names import check_name, plain_name, shown


def test_a_name_is_made_one_or_checked_as_it_stands():
    assert plain_name(" anna ") == "anna" and plain_name("e\u0301") == "\u00e9"
    check_name("anna")
    check_name("e\u0301")
    for name in (" anna", "CON", "voice.", "..", "~root", "a" * 201, "\udc80", None, 3, ["a"]):
        with pytest.raises(UserError):
            check_name(name)


def test_a_shown_value_is_one_short_printable_line():
    for value, wanted in (([1] * 9999, "'list'"), ({"a": 1}, "'dict'"), (None, "'None'"), (True, "'True'"), (1e308, "'1e+308'"), ("b", "'b'")):
        assert shown(value) == wanted
    for value in ("a\nb\x1b", "x" * 5000, "\ud800\u202e", 10**5000):
        assert len(shown(value)) < 100 and shown(value).isprintable() and shown(value).encode("utf-8")
