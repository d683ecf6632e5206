"""Names that are a file's on every system, and pasted paths."""

import pytest

from LoraModel.messages import UserError
from LoraModel.names import check_name, plain_name, shown, unquoted


@pytest.mark.parametrize("pasted", [
    "/a/my b", ' "/a/my b" ', "'/a/my b'", "\u201c/a/my b\u201d", "\u2018/a/my b\u2019", "\u202a/a/my b",
    "\ufeff/a/my b\n", '\ufeff"/a/my b"', '/a/my b"', "\u300c/a/my b\u300d", "\u202a'\"/a/my b\"'\u202c ",
    "\u201c/a/my b\"",
])
def test_what_is_pasted_along_with_a_path_is_taken_away(pasted):
    assert unquoted(pasted) == "/a/my b"


def test_what_belongs_to_a_path_stays():
    for path in ("/a/it's", "/a/'b' c", "C:\\a b", "/a/\u201cb\u201d c", "", "~/x"):
        assert unquoted(path) == path


def test_a_name_is_made_one_or_checked_as_it_stands():
    assert plain_name(" anna ") == "anna" and plain_name("e\u0301") == "\u00e9"
    check_name("anna")
    check_name("e\u0301")
    for name in (" anna", "CON", "voice.", "..", "~root", "a" * 201, "\udc80", None, 3, ["a"]):
        with pytest.raises(UserError):
            check_name(name)


def test_a_shown_value_is_one_short_printable_line():
    for value, wanted in (("a\nb\x1b", "'a?b?'"), ("x" * 5000, "'" + "x" * 80 + "…'"), ([1] * 9999, "'list'"),
                          (None, "'None'"), (True, "'True'"),
                          ("\ud800", "'?'"), (10**5000, "'int'"), ({"a": 1}, "'dict'"), (1e308, "'1e+308'")):
        assert shown(value) == wanted
