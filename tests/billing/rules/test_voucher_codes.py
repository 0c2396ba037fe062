"""Voucher codes: random enough, read as people write them, and no single slip of theirs goes through."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.voucher_codes import (
    ALPHABET,
    LENGTH,
    RANDOM_CHARACTERS,
    code_hash,
    new_code,
    normalised,
)


def _code_of(digits: list[int]) -> str:
    left = iter(digits)
    return new_code(lambda _below: next(left))


codes = st.lists(
    st.integers(0, len(ALPHABET) - 1), min_size=RANDOM_CHARACTERS, max_size=RANDOM_CHARACTERS
).map(_code_of)


def test_it_has_at_least_80_random_bits():
    """Each random character is drawn from the whole alphabet."""
    asked: list[int] = []
    new_code(lambda below: asked.append(below) or 0)
    assert asked == [len(ALPHABET)] * RANDOM_CHARACTERS
    assert RANDOM_CHARACTERS * math.log2(len(set(ALPHABET))) >= 80


def test_it_uses_no_character_that_looks_like_another():
    """Neither of each confusable pair is in the alphabet, whose size is the prime that the check needs."""
    assert not set("0O1IL2Z5S8BUV") & set(ALPHABET)
    assert len(ALPHABET) > LENGTH
    assert all(len(ALPHABET) % divisor for divisor in range(2, len(ALPHABET)))


@given(codes)
def test_it_reads_back_what_it_wrote(code):
    """Groups, blanks, case and the dashes of a word processor do not matter."""
    plain = code.replace("-", "")
    assert [len(group) for group in code.split("-")] == [5, 5, 5, 5]
    for typed in (code, plain, code.lower(), f"  {code} \n", code.replace("-", " \u2013 ")):
        assert normalised(typed) == plain


@given(codes, st.data())
def test_it_catches_every_single_wrong_character(code, data):
    """Whichever character is another one, the code is refused."""
    plain = code.replace("-", "")
    place = data.draw(st.integers(0, LENGTH - 1))
    for other in ALPHABET.replace(plain[place], ""):
        assert normalised(plain[:place] + other + plain[place + 1 :]) is None


@given(codes)
def test_it_catches_every_swap_of_two_characters(code):
    """Neighbours or not: two characters that changed places are noticed."""
    plain = code.replace("-", "")
    for first in range(LENGTH):
        for second in range(first + 1, LENGTH):
            swapped = list(plain)
            swapped[first], swapped[second] = swapped[second], swapped[first]
            assert (normalised("".join(swapped)) is None) == (plain[first] != plain[second])


@pytest.mark.parametrize(
    "typed", ["", " ", "-", "A" * 19, "A" * 21, "0" * 20, "é" * 20, "A" * 10**6, "\x00" * 20]
)
def test_it_takes_nothing_else(typed):
    """Anything that cannot be a code is none, however long or odd."""
    assert normalised(typed) is None


def test_it_never_makes_one_code_twice():
    """Nor do two codes share a hash."""
    source = random.Random(7)
    made = {new_code(source.randrange) for _ in range(2_000)}
    assert len(made) == len({code_hash(code.replace("-", "")) for code in made}) == 2_000


def test_it_hashes_with_sha_256():
    """The stored form is fixed: another one would make every issued code unknown."""
    assert code_hash("A" * 20) == "edfcaac579024f574adbcaa3c13e4fd2b7f1797826afe679f2144af2cb5c062d"
