"""Makes enums of the generated Python client take values that it does not know yet.

The API may add values to an enum; clients treat one that they do not know as "other". Without this, one new value would
make a whole answer unreadable. Runs inside ariadne-codegen and knows nothing of the product.
"""

import ast

from ariadne_codegen.plugins.base import Plugin
from graphql import GraphQLEnumType

OTHER = "OTHER"
_ADDED = f'''
{OTHER} = "{OTHER}"

@classmethod
def _missing_(cls, value: object) -> "{{name}}":
    return cls.{OTHER}
'''


class OtherValues(Plugin):
    """Adds a member `OTHER` to every enum, and gives it for each value that the API has added since."""

    def generate_enum(self, class_def: ast.ClassDef, enum_type: GraphQLEnumType) -> ast.ClassDef:
        """Return the class with that member; raises `ValueError` where the schema has a value of that name."""
        if OTHER in enum_type.values:
            raise ValueError(f"{enum_type.name} has a value {OTHER}: choose another name for unknown ones")
        class_def.body.extend(ast.parse(_ADDED.format(name=class_def.name)).body)
        return class_def
