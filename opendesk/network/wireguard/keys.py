"""WireGuard keys as text: 32 bytes in base64, written in the one way that `wg` takes and prints.

Faults go on after the value ("… is not a WireGuard key") and never repeat it: whoever mixes keys up has pasted the private one.
"""

import re
from typing import Final

# The last character before the padding carries four bits; other spellings of the same bytes are refused by `wg`, and would be
# another key to whoever compares text.
PATTERN: Final = r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
_KEY: Final = re.compile(PATTERN)
# No device has it. wireguard-go ignores it, the kernel adds it; as a preshared key it means that there is none.
ZERO: Final = f"{'A' * 43}="


def public_key(text: str) -> str:
    return _key(text)


def preshared_key(text: str) -> str:
    return _key(text)


def _key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise ValueError("is not a WireGuard key (32 bytes in base64: 44 characters, the last one =)")
    if text == ZERO:
        raise ValueError("is the key of all zeros, which nobody has")
    return text
