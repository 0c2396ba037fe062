"""The two tools of somebody who changes a table: `write` the next migration, `expect` the catalogs anew.

`python -m api.migrations write` compares the models with the migrations. `python -m api.migrations expect POSTGRES_URL`
migrates a new SQLite file and the named, empty PostgreSQL database and writes their catalogs beside the migrations.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from api.catalog import expected_file, read_catalog
from api.database import upgrade
from api.migrations._author import write


async def _expect(postgres_url: str) -> list[str]:
    written = []
    with tempfile.TemporaryDirectory() as folder:
        for url in (f"sqlite://{folder}/catalog.db", postgres_url):
            await upgrade(url)
            dialect, lines = await read_catalog(url)
            expected_file(dialect).write_text("\n".join(lines) + "\n", encoding="utf-8")
            written.append(str(expected_file(dialect)))
    return written


def main(arguments: list[str]) -> int:
    """Run one of the two tools and print the files that it wrote."""
    match arguments:
        case ["write"]:
            written = asyncio.run(write())
        case ["expect", postgres_url]:
            written = asyncio.run(_expect(postgres_url))
        case _:
            print(__doc__)
            return 2
    print("\n".join(written) or f"nothing changed in {Path(__file__).parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
