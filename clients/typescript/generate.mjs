// Writes the types of the operations: node generate.mjs SCHEMA OPERATIONS OUTPUT
// Plain plugins of GraphQL Code Generator, without its command line and the three hundred packages that come with it.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { codegen } from "@graphql-codegen/core";
import * as documentsPlugin from "@graphql-codegen/typed-document-node";
import * as operationsPlugin from "@graphql-codegen/typescript-operations";
import { buildASTSchema, parse } from "graphql";

const [schemaFile, operationsFolder, output] = process.argv.slice(2);
const schema = parse(readFileSync(schemaFile, "utf8"));
const documents = readdirSync(operationsFolder)
  .sort()
  .map((name) => ({ location: name, document: parse(readFileSync(join(operationsFolder, name), "utf8")) }));

const config = {
  documentMode: "string", // no GraphQL library in the browser
  futureProofEnums: true, // the API may add values; a client treats one that it does not know as "other"
  immutableTypes: true,
  mergeFragmentTypes: true,
  skipTypename: true,
  strictScalars: true,
  useTypeImports: true,
  // As they are on the wire: instants in ISO 8601, amounts as decimals in strings.
  scalars: { Date: "string", DateTime: "string", Decimal: "string", Duration: "string" },
};

writeFileSync(
  output,
  "// Written by `make clients` from ../operations and the schema: change those, not this.\n" +
    (await codegen({
      filename: output,
      schema,
      schemaAst: buildASTSchema(schema),
      documents,
      config,
      plugins: [{ operations: {} }, { documents: {} }],
      pluginMap: { operations: operationsPlugin, documents: documentsPlugin },
    })),
);
