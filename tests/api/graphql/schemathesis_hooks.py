"""What schemathesis is told of the API: how its scalars look, and what would be a fault of ours.

Runs inside schemathesis, in an environment of its own, and knows nothing of the product but its wire.
"""

import os
from pathlib import Path

import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes

SCALARS = {
    "Date": ("2026-11-20", "9999-12-31", "x"),
    "DateTime": ("2026-11-20T09:00:00Z", "2030-01-01T00:00:00+02:00", "0001-01-01T00:00:00Z", "soon", ""),
    "Decimal": ("1.00", "0", "-1.00", "1e400", "NaN", "9" * 40, "0.001"),
    "Duration": ("P1D", "PT0S", "P99999Y", "x"),
    # Some that name what there is, and some that name nothing.
    "ID": (*os.environ["ABEYANCE_IDS"].split(), "", "x", "QWNjb3VudDoxMjM="),
}
#: Refusals that a client can read; everything else would be ours to mend.
CODES = {"BAD_CURSOR", "LIMIT_EXCEEDED", "FORBIDDEN", "INVALID", "RATE_LIMITED", "NOT_FOUND"}

for _name, _texts in SCALARS.items():
    schemathesis.graphql.scalar(_name, st.sampled_from(_texts).map(nodes.String))


@schemathesis.check
def answered_or_refused(context, response, case):
    """Fail for whatever is neither an answer nor a refusal with a code of the contract, and write down which it was."""
    assert response.status_code in {200, 400, 413, 429}, response.status_code
    codes = {error["extensions"]["code"] for error in response.json().get("errors", ())}
    assert codes <= CODES, codes - CODES
    with Path(os.environ["ABEYANCE_TALLY"]).open("a", encoding="utf-8") as tally:
        tally.write(f"{','.join(sorted(codes)) or 'answered'}\n")
