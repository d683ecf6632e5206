"""The cache with a limit."""

from LoraModel.recent import Recent


def test_what_was_used_longest_ago_goes_first():
    cache = Recent(3)
    for key in "abc":
        cache.put(key, key.upper())
    assert cache.get("a") == "A"  # used now
    cache.put("d", "D")
    assert [cache.get(key) for key in "abcd"] == ["A", None, "C", "D"] and len(cache) == cache.weight == 3


def test_weights_add_up_and_one_too_heavy_is_kept_alone():
    cache = Recent(10, len)
    cache.put("a", "1234")
    cache.put("b", "1234")
    cache.put("a", "12")  # in place of what was there
    assert cache.weight == 6
    cache.put("c", "1" * 50)
    assert (len(cache), cache.weight, cache.get("c")) == (1, 50, "1" * 50)
    cache.drop("c")
    cache.drop("c")
    assert (len(cache), cache.weight) == (0, 0)
    cache.put("d", "1")
    cache.clear()
    assert (len(cache), cache.weight, cache.get("d")) == (0, 0, None)
