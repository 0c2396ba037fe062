"""What the clients are written from, and a record of it, so that old output is noticed without the generators.

Owns finding the operations (docs/portal.md is the one place where they are kept) and the part of the schema that they
touch, and the record of both. Runs no generator.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLInputObjectType,
    GraphQLSchema,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    VisitorAction,
    build_schema,
    get_named_type,
    is_composite_type,
    is_specified_scalar_type,
    parse,
    print_type,
    visit,
)

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = CHECKOUT / "clients"
GUIDE = CHECKOUT / "docs" / "portal.md"
SCHEMA = CHECKOUT / "api" / "graphql" / "schema.graphql"
RECORD = "record.json"
#: What is written by `make clients`, below this folder.
WRITTEN = ("operations", "python/abeyance_client", "typescript/abeyance.ts")
#: What decides how it is written.
GENERATORS = (
    "requirements-foreign.lock",
    "clients/python/ariadne.toml",
    "clients/python/other_values.py",
    "clients/typescript/generate.mjs",
    "clients/typescript/package-lock.json",
)
_BLOCK = re.compile(r"^```graphql\n(.*?)^```", re.MULTILINE | re.DOTALL)


def operations(guide: str) -> dict[str, str]:
    """Return the operations of a guide's text by name; raises `ValueError` where one has no name, or another's."""
    found: dict[str, str] = {}
    for text in _BLOCK.findall(guide):
        name = re.match(r"(?:query|mutation|subscription) (\w+)", text)
        if name is None or name[1] in found:
            raise ValueError(f"give this operation of the guide a name of its own:\n{text}")
        found[name[1]] = text
    return found


def touched(schema: GraphQLSchema, documents: Iterable[DocumentNode]) -> list[str]:
    """Return all of a schema that operations rest on, sorted: fields with arguments, enums, scalars and inputs.

    Whatever else is added to the schema leaves the clients as they are.
    """
    seen = _Seen(schema)
    for document in documents:
        visit(document, TypeInfoVisitor(seen.info, seen))
    return sorted(seen.lines)


class _Seen(Visitor):
    def __init__(self, schema: GraphQLSchema) -> None:
        super().__init__()
        self.info = TypeInfo(schema)
        self.lines: set[str] = set()

    def enter_field(self, node: FieldNode, *_: object) -> VisitorAction:
        """Note one field, what it gives and what it takes."""
        parent, field = self.info.get_parent_type(), self.info.get_field_def()
        if parent is None or field is None:
            raise ValueError(f"the schema has no {node.name.value} there")
        takes = ", ".join(f"{name}: {argument.type}" for name, argument in sorted(field.args.items()))
        self.lines.add(f"{parent}.{node.name.value}({takes}): {field.type}")
        self._note(field.type)
        for argument in field.args.values():
            self._note(argument.type)
        return None

    def _note(self, kind: object) -> None:
        named = get_named_type(kind)  # type: ignore[call-overload]
        if is_composite_type(named) or is_specified_scalar_type(named):
            return
        if (text := print_type(named)) in self.lines:
            return
        self.lines.add(text)
        if isinstance(named, GraphQLInputObjectType):
            for field in named.fields.values():
                self._note(field.type)


def record(checkout: Path = CHECKOUT, written: Path = FOLDER) -> dict[str, str]:
    """Return digests of what clients are written from, in a checkout, and of what was written into a folder."""
    found = operations((checkout / GUIDE.relative_to(CHECKOUT)).read_text(encoding="utf-8"))
    schema = _schema((checkout / SCHEMA.relative_to(CHECKOUT)).read_text(encoding="utf-8"))
    rests_on = touched(schema, [parse(text) for text in found.values()])
    generators = {name: (checkout / name).read_text(encoding="utf-8") for name in GENERATORS}
    return {
        "guide": _digest(found),
        "schema": _digest({"touched": "\n".join(rests_on)}),
        "generators": _digest(generators),
    } | {part: _digest(dict(_files(written / part))) for part in WRITTEN}


@lru_cache(4)
def _schema(text: str) -> GraphQLSchema:
    return build_schema(text)


def recorded(folder: Path = FOLDER) -> dict[str, str]:
    """Return the record that was made when the clients were written."""
    told: dict[str, str] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return told


def _files(place: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(place).as_posix(), file.read_text(encoding="utf-8")


def _digest(texts: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
