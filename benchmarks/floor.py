"""What graphql-core alone costs: an operation executed on its own finished answer.

Owns that measure. No statement, no token, no HTTP, no resolver of ours: what an executor of fields one by one cannot
go below, so that the ratios beside it are explained.
"""

import time
from typing import Any

from graphql import build_schema, execute_sync, parse

from api.graphql.schema import sdl


def floor(body: dict[str, Any], answer: dict[str, Any], many: int) -> float:
    """Return the processor's seconds that one execution of a parsed and valid document takes.

    Raises `RuntimeError` unless it tells what the product told.
    """
    schema, document = build_schema(sdl(), assume_valid=True), parse(body["query"])

    def once() -> Any:
        return execute_sync(schema, document, answer, variable_values=body.get("variables"))

    if once().data != answer:
        raise RuntimeError("graphql-core answers something else")
    begun = time.process_time()
    for _ in range(many):
        once()
    return (time.process_time() - begun) / many
