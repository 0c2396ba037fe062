"""Voucher codes: how one is made, read and hashed. Pure: the random source is handed in.

A code is 19 random characters and a check character out of 23 that nobody takes for each other, in four groups of five:
`7KQ9F-…`. Of what a customer types, case, blanks and dashes do not matter.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence

#: No 0 and O, 1, I and L, 2 and Z, 5 and S, 8 and B, U and V. Their number is a prime, which the check rests on.
ALPHABET = "34679ACDEFGHJKMNPQRTWXY"
RANDOM_CHARACTERS = 19
"""log2(23 ** 19) is 85.9: no guess among any number of vouchers has a chance worth naming."""
LENGTH = RANDOM_CHARACTERS + 1
GROUP = 5

#: Returns a number from 0 up to, but not including, its argument, each as likely as the others: `secrets.randbelow`.
RandomBelow = Callable[[int], int]


def new_code(random_below: RandomBelow) -> str:
    """Return a new code in its groups, as it is shown to people."""
    digits = [random_below(len(ALPHABET)) for _ in range(RANDOM_CHARACTERS)]
    # Solved for the last digit: with it the whole sum is 0.
    digits.append(-_sum(digits) * pow(LENGTH, -1, len(ALPHABET)) % len(ALPHABET))
    code = "".join(ALPHABET[digit] for digit in digits)
    return "-".join(code[start : start + GROUP] for start in range(0, LENGTH, GROUP))


def normalised(typed: str) -> str | None:
    """Return the code without groups, in capitals; None when it cannot be one: a character or more is wrong."""
    plain = unicodedata.normalize("NFKC", typed[: 4 * LENGTH]).upper()
    code = "".join(sign for sign in plain if not sign.isspace() and unicodedata.category(sign) != "Pd")
    if len(code) != LENGTH or any(sign not in ALPHABET for sign in code):
        return None
    return None if _sum([ALPHABET.index(sign) for sign in code]) else code


def code_hash(code: str) -> str:
    """Return the SHA-256 of a normalised code, which is all that is kept of it."""
    return hashlib.sha256(code.encode("ascii")).hexdigest()


def _sum(digits: Sequence[int]) -> int:
    # Modulo a prime, with weights that are all different and none 0, one wrong character and two that changed places
    # always change the sum.
    return sum(weight * digit for weight, digit in enumerate(digits, start=1)) % len(ALPHABET)
