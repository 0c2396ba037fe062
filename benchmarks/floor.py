"""What graphql-core alone costs: an operation executed on its own finished answer.

Owns that measure. No statement, no token, no HTTP, no resolver of ours: what an executor of fields one by one cannot
go below, so that the ratios beside it are explained. In a process of its own: beside what the
benchmark keeps in memory the same work takes many times as long.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from graphql import build_schema, execute_sync, parse

from api.graphql.schema import sdl

_CHECKOUT = Path(__file__).resolve().parent.parent
#: Far more than it takes.
_PATIENCE_SECONDS = 120


async def floor(body: dict[str, Any], answer: dict[str, Any], many: int) -> float:
    """Return the processor's seconds that one execution of a parsed and valid document takes.

    Raises `RuntimeError` unless it tells what the product told.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.floor",
        cwd=_CHECKOUT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    asked = json.dumps({"body": body, "answer": answer, "many": many}).encode()
    try:
        told, _ = await asyncio.wait_for(process.communicate(asked), _PATIENCE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError("graphql-core answers something else, see above")
    return float(told)


def _measured(body: dict[str, Any], answer: dict[str, Any], many: int) -> float:
    schema, document = build_schema(sdl(), assume_valid=True), parse(body["query"])

    def once() -> Any:
        return execute_sync(schema, document, answer, variable_values=body.get("variables"))

    if once().data != answer:
        raise RuntimeError("graphql-core answers something else")
    begun = time.process_time()
    for _ in range(many):
        once()
    return (time.process_time() - begun) / many


if __name__ == "__main__":
    print(_measured(**json.load(sys.stdin)))
