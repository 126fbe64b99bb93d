from hypothesis import given
from hypothesis import strategies as st

from opendesk.network.wireguard import arguments
from opendesk.network.wireguard.arguments import chunks, words
from opendesk.network.wireguard.changes import Change, Put, Remove
from opendesk.network.wireguard.prefixes import MAX

KEY = f"{'x' * 43}="
SECRET = f"{'s' * 43}="

changes = st.builds(Remove, st.just(KEY)) | st.builds(
    Put,
    st.just(KEY),
    st.sampled_from([(), ("10.0.0.1/32",), ("2001:db8:1111:2222:3333:4444:5555:6666/128",) * MAX]),
    st.just(25),
    st.sampled_from([None, "192.0.2.7:1"]),
    st.sampled_from([None, "", SECRET]),
)


@given(st.lists(changes, max_size=40), st.sampled_from([1, 3, 50]))
def test_chunks_are_all_changes_in_their_order(asked: list[Change], times: int) -> None:
    asked = asked * times
    parted = list(chunks(asked))
    assert [change for chunk in parted for change in chunk] == asked
    assert all(parted)


@given(st.lists(changes, min_size=1, max_size=10))
def test_one_call_can_take_a_chunk(asked: list[Change]) -> None:
    for chunk in chunks(asked * 400):
        assert len(chunk) <= arguments.CHUNK
        assert sum(map(arguments.has_preshared_key, chunk)) <= arguments.CHUNK_PRESHARED
        told = [word for change in chunk for word in words(change, lambda _secret: "/dev/fd/1000")]
        assert sum(len(word) + 9 for word in told) <= arguments.CHUNK_BYTES


def test_a_chunk_is_as_large_as_it_may_be() -> None:
    removes = [Remove(KEY)] * 2500
    assert [len(chunk) for chunk in chunks(removes)] == [1000, 1000, 500]
    preshared = [Put(KEY, (), 0, preshared_key=SECRET)] * 450
    assert [len(chunk) for chunk in chunks(preshared)] == [200, 200, 50]
    assert list(chunks([])) == []


def test_words_say_each_thing_once_and_no_secret() -> None:
    put = Put(KEY, ("10.0.0.1/32", "fd00::/64"), 25, "192.0.2.7:1", SECRET)
    assert words(put, lambda _secret: "/dev/fd/9") == [
        "peer", KEY, "persistent-keepalive", "25", "preshared-key", "/dev/fd/9", "endpoint", "192.0.2.7:1",
        "allowed-ips", "10.0.0.1/32,fd00::/64",
    ]  # fmt: skip
    bare = ["peer", KEY, "persistent-keepalive", "0", "allowed-ips", ""]
    assert words(Put(KEY, (), 0), lambda _secret: "") == bare
    assert words(Put(KEY, (), 0, preshared_key=""), lambda _secret: "")[4:6] == ["preshared-key", "/dev/null"]
    assert words(Remove(KEY), lambda _secret: "") == ["peer", KEY, "remove"]
