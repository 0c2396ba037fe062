"""In which language an answer is: customers and the control plane read the account's, staff reads English.

Owns that choice alone; the languages are `billing.words`'.
"""

from api.graphql.context import Context
from api.models import Role
from billing.models import Account
from billing.rules.words import Phrase
from billing.words import FALLBACK, Words, words_of

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
    """Return the words in which the caller is answered: a customer in the language of the first of its accounts."""
    account = await context.scope.accounts().order_by("id").first() if context.scope.is_customer else None
    return words_of(account.locale, account.time_zone) if account is not None else words_of(FALLBACK, "UTC")
