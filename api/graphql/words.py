"""In which language an answer is: customers and the control plane read the account's, staff reads English.

Owns that choice alone; the languages are `billing.words`'.
"""

import re

from api.graphql.context import Context
from api.models import Role
from billing.models import Account
from billing.rules.words import Phrase
from billing.words import FALLBACK, Words, languages, words_of

#: Of the languages that a client names, no more are looked at.
_MOST_LANGUAGES = 20
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
#: The control plane shows what it is told to the account's customer.
_IN_THE_ACCOUNTS_LANGUAGE = frozenset({Role.CUSTOMER, Role.CONTROL})


def words_about(context: Context, account: Account) -> Words:
    """Return the words in which something about an account is told; instants are in its zone for everybody."""
    own = context.principal.role in _IN_THE_ACCOUNTS_LANGUAGE
    return words_of(account.locale if own else FALLBACK, account.time_zone)


def told_in(words: Words, told: Phrase | str) -> str:
    """Return a phrase in these words; a text that somebody typed stays as it is."""
    return told if isinstance(told, str) else words.say(told)


async def words_to(context: Context) -> Words:
    """Return the words in which the caller is answered: a customer in the language of the first of its accounts.

    Without an account in the one that it asked for; staff and machines in English.
    """
    if not context.scope.is_customer:
        return words_of(FALLBACK, "UTC")
    account = await context.scope.accounts().order_by("id").first()
    return words_of(account.locale, account.time_zone) if account else words_for(context.languages)


def words_for(accepted: str | None) -> Words:
    """Return the words for somebody of whom no account is known: the best of `Accept-Language` that there are.

    RFC 9110, 12.5.4: ranges with weights. What cannot be read is passed over.
    """
    wanted = []
    for part in (accepted or "").split(",")[:_MOST_LANGUAGES]:
        tag, _, weight = part.partition(";")
        language = tag.strip().partition("-")[0].lower()
        quality = _quality(weight)
        if quality and language in languages():
            wanted.append((quality, language))
    best = max(wanted, key=lambda one: one[0], default=(0.0, FALLBACK))
    return words_of(best[1], "UTC")


def _quality(weight: str) -> float:
    found = _QUALITY.fullmatch(weight.strip())
    return float(found[1]) if found else float(not weight)
