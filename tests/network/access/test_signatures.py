"""Signatures, byte for byte. The vectors were made with OpenSSL: `printf … | openssl dgst -sha256 -hmac SECRET`."""

from hashlib import sha256
import hmac
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.signatures import Fault, Signable, Stamp, plain_signature, signature, signed, verify

KEY = b"a secret of the vectors"
ACCENTED = "ségredo".encode()
BODY = b'{"mikId":"r1"}'
ACTION = Signable("POST", b"/relay/action?trace=1&x=%C3%A9", BODY)
REMOVAL = Signable("DELETE", b"/relay/routers/r1", b"")
STAMP = Stamp(1_790_000_000_000, "0123456789abcdef")

PLAIN = "3d4605ce93344e78e0047d4c351d52a3c98bafe7653eef85a28af55d2fb1637c"
OF_ACTION = "v1=bf2d4854a4d8646adaaa1ee7ddb8299edfa1fc40927491819f11011d4246baa1"
OF_REMOVAL = "v1=222f50829829ccee5434a1529d80b759968f5b3a321be6860195a41247c67764"
OF_BYTES = "12ccb460805bba0d2bc58ab2bf4c569f55c11d5d64a70c41c423f9c0cc973490"


def of(request: Signable, headers: dict[str, str], *keys: bytes, plain: bool = True) -> Any:
    return verify(headers, request, keys or (KEY,), plain_allowed=plain)


def header(value: str) -> dict[str, str]:
    return {"x-relay-signature": value}


def test_the_plain_form_is_over_the_body() -> None:
    assert plain_signature(KEY, BODY) == PLAIN
    assert plain_signature(ACCENTED, b"\xff\0\n{") == OF_BYTES
    assert of(ACTION, header(PLAIN)) is None
    assert of(Signable("PUT", b"/", b"\xff\0\n{"), header(OF_BYTES), ACCENTED) is None


def test_the_replay_safe_form_is_over_method_target_time_nonce_and_body() -> None:
    assert signature(KEY, ACTION, "1790000000000", "0123456789abcdef") == OF_ACTION
    headers = {"x-relay-ts": "1790000000000", "x-relay-nonce": "0123456789abcdef", "x-relay-signature": OF_ACTION}
    assert signed(KEY, ACTION, STAMP) == headers
    assert of(ACTION, headers) == STAMP
    removal = Stamp(STAMP.sent_ms, "no-body-no-body-no-body")
    assert signed(ACCENTED, REMOVAL, removal)["x-relay-signature"] == OF_REMOVAL
    assert of(REMOVAL, signed(ACCENTED, REMOVAL, removal), ACCENTED, plain=False) == removal


@pytest.mark.parametrize(
    "other",
    [
        Signable("PUT", ACTION.target, BODY),
        Signable("post", ACTION.target, BODY),
        Signable("POST", b"/relay/action", BODY),
        Signable("POST", b"/relay/action?x=%C3%A9&trace=1", BODY),
        Signable("POST", b"/relay/action?trace=1&x=%c3%a9", BODY),
        Signable("POST", b"/relay/Action?trace=1&x=%C3%A9", BODY),
        Signable("POST", b"/relay/action/?trace=1&x=%C3%A9", BODY),
        Signable("POST", ACTION.target, BODY + b"\n"),
        Signable("POST", ACTION.target, b'{"mikId": "r1"}'),
        Signable("POST", ACTION.target, b""),
    ],
)
def test_a_signature_is_of_one_request_only(other: Signable) -> None:
    assert of(other, signed(KEY, ACTION, STAMP)) is Fault.WRONG


@pytest.mark.parametrize(("name", "value"), [("x-relay-ts", "1790000000001"), ("x-relay-nonce", "0123456789abcdeF")])
def test_and_of_one_stamp_to_the_letter(name: str, value: str) -> None:
    assert of(ACTION, {**signed(KEY, ACTION, STAMP), name: value}) is Fault.WRONG
    assert of(ACTION, {**signed(KEY, ACTION, STAMP), "x-relay-ts": "01790000000000"}) is Fault.WRONG


def test_a_plain_signature_is_not_one_of_the_other_form_nor_the_other_way_round() -> None:
    stamped = signed(KEY, ACTION, STAMP)
    assert of(ACTION, {**stamped, "x-relay-signature": f"v1={PLAIN}"}) is Fault.WRONG
    assert of(ACTION, header(OF_ACTION.removeprefix("v1="))) is Fault.WRONG


def test_the_plain_form_is_not_for_requests_without_a_body() -> None:
    assert of(REMOVAL, header(plain_signature(KEY, b""))) is Fault.NO_BODY


def test_where_only_the_replay_safe_form_is_taken_a_plain_one_is_refused_right_or_wrong() -> None:
    for value in (PLAIN, "0" * 64):
        assert of(ACTION, header(value), plain=False) is Fault.PLAIN
    assert of(ACTION, signed(KEY, ACTION, STAMP), plain=False) == STAMP


def test_any_of_several_secrets_verifies() -> None:
    for key in (KEY, ACCENTED):
        for keys in ((KEY, ACCENTED), (ACCENTED, KEY), (b"another", ACCENTED, KEY)):
            assert of(ACTION, signed(key, ACTION, STAMP), *keys) == STAMP
            assert of(ACTION, header(plain_signature(key, BODY)), *keys) is None
    assert of(ACTION, signed(KEY, ACTION, STAMP), ACCENTED) is Fault.WRONG
    assert of(ACTION, header(PLAIN), ACCENTED) is Fault.WRONG


def test_without_secrets_nothing_is_right() -> None:
    assert verify(signed(KEY, ACTION, STAMP), ACTION, (), plain_allowed=True) is Fault.WRONG


def test_digits_are_read_in_either_case() -> None:
    assert of(ACTION, header(PLAIN.upper())) is None
    stamped = signed(KEY, ACTION, STAMP)
    assert of(ACTION, {**stamped, "x-relay-signature": f"v1={OF_ACTION[3:].upper()}"}) == STAMP


def test_a_bare_question_mark_may_be_signed_too() -> None:
    """Servers pass on an empty query as none."""
    asked = Signable("POST", b"/relay/action", BODY)
    assert of(asked, signed(KEY, Signable("POST", b"/relay/action?", BODY), STAMP)) == STAMP
    assert of(asked, signed(KEY, asked, STAMP)) == STAMP


MALFORMED = [
    "",
    "v1=",
    "v1",
    "v2=" + "0" * 64,
    "V1=" + "0" * 64,
    "0" * 63,
    "0" * 65,
    "g" * 64,
    " " + "0" * 64,
    "0" * 64 + "\n",
    f"{'0' * 64}, {'0' * 64}",
    f"v1={'0' * 64}, v1={'0' * 64}",
    "v1=v1=" + "0" * 64,
    "sha256=" + "0" * 64,
    "\xff" * 64,
    "٠" * 64,
    "0" * 100_000,
]


@pytest.mark.parametrize("value", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_signature_is_told_apart_from_a_wrong_one(value: str) -> None:
    assert of(ACTION, {**signed(KEY, ACTION, STAMP), "x-relay-signature": value}) is Fault.MALFORMED


def test_none_at_all_is_missing() -> None:
    assert of(ACTION, {"x-relay-ts": "1790000000000", "x-relay-nonce": STAMP.nonce}) is Fault.MISSING


@pytest.mark.parametrize("sent", ["", "x", "-1", "+1", "1.5", "1e9", " 1", "1 ", "1, 1", "1_0", "٣", "\xb2", "9" * 15])
def test_a_time_is_plain_digits(sent: str) -> None:
    right = {"x-relay-ts": sent, "x-relay-nonce": STAMP.nonce}
    made = {**right, "x-relay-signature": signature(KEY, ACTION, sent, STAMP.nonce)}
    assert of(ACTION, made) is Fault.BAD_TIMESTAMP
    del made["x-relay-ts"]
    assert of(ACTION, made) is Fault.BAD_TIMESTAMP


@pytest.mark.parametrize(
    "nonce", ["", "x" * 15, "x" * 65, "x" * 8 + " " + "x" * 8, "é" * 16, "x" * 16 + "\n", "\0" * 16]
)
def test_a_nonce_is_16_to_64_visible_characters(nonce: str) -> None:
    made = signed(KEY, ACTION, Stamp(STAMP.sent_ms, nonce))
    assert of(ACTION, made) is Fault.BAD_NONCE
    del made["x-relay-nonce"]
    assert of(ACTION, made) is Fault.BAD_NONCE


@pytest.mark.parametrize("nonce", ["x" * 16, "!" * 64, "~=,;:\"'\\/?&%" + "x" * 8])
def test_of_visible_characters_any_will_do(nonce: str) -> None:
    stamp = Stamp(1, nonce)
    assert of(ACTION, signed(KEY, ACTION, stamp)) == stamp


@given(
    st.builds(
        Signable,
        st.sampled_from(["POST", "PUT", "DELETE"]),
        st.binary(max_size=40).map(lambda rest: b"/" + rest),
        st.binary(max_size=60),
    ),
    st.integers(0, 10**14 - 1),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=64),
    st.binary(min_size=1, max_size=80),
)
def test_what_is_signed_verifies_and_is_what_the_contract_says(
    request: Signable, sent_ms: int, nonce: str, key: bytes
) -> None:
    stamp = Stamp(sent_ms, nonce)
    assert of(request, signed(key, request, stamp), key) == stamp
    text = b"\n".join([request.method.encode(), request.target, str(sent_ms).encode(), nonce.encode(), request.body])
    assert signature(key, request, str(sent_ms), nonce) == "v1=" + hmac.new(key, text, sha256).hexdigest()


@given(st.dictionaries(st.sampled_from(["x-relay-signature", "x-relay-ts", "x-relay-nonce"]), st.text(max_size=70)))
def test_no_header_makes_it_raise_or_let_in(headers: dict[str, str]) -> None:
    assert isinstance(of(ACTION, headers), Fault)


@pytest.mark.parametrize("said", [True, False])
def test_digests_are_compared_in_constant_time_and_by_every_key(monkeypatch: pytest.MonkeyPatch, said: object) -> None:
    """Whatever `compare_digest` says is what counts, and it is asked of each."""
    compared: list[bytes] = []

    def comparing(ours: bytes, _: bytes) -> bool:
        compared.append(ours)
        return bool(said)

    stamped, bare = signed(KEY, ACTION, STAMP), header(PLAIN)
    wrong = header("0" * 64)
    monkeypatch.setattr(hmac, "compare_digest", comparing)
    assert of(ACTION, stamped, KEY, b"second", b"third") == (STAMP if said else Fault.WRONG)
    assert len(compared) == 3
    for headers in (bare, wrong):
        assert of(ACTION, headers, KEY, b"second", b"third") == (None if said else Fault.WRONG)
    assert len(compared) == 9
