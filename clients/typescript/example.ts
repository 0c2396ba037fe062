// How a portal uses the types: one function that asks, and what it gives for the guide's operations. Copy what you need.

import {
  PayDocument,
  PortalHomeDocument,
  type ErrorCode,
  type PayMutation,
  type PortalHomeQuery,
  type TypedDocumentString,
} from "./abeyance.ts";

/** Why the API did not answer: `code` is `extensions.code` of the first error. */
export class NotAnswered extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Ask for one operation; its variables and its answer have their types. */
export async function ask<Answer, Variables>(
  url: string,
  token: string,
  document: TypedDocumentString<Answer, Variables>,
  ...[variables]: Variables extends Record<string, never> ? [] : [Variables]
): Promise<Answer> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ query: document.toString(), variables }),
  });
  const { data, errors } = (await response.json()) as {
    data: Answer | null;
    errors?: { message: string; extensions: { code: string } }[];
  };
  const [first] = errors ?? [];
  if (first) throw new NotAnswered(first.extensions.code, first.message);
  if (data === null) throw new NotAnswered("INTERNAL", "an answer without data");
  return data;
}

type Account = NonNullable<PortalHomeQuery["viewer"]["account"]>;
type Gate = Account["servers"]["edges"][number]["node"]["gates"][number];

/** The home page of the token's account, or null where the token belongs to none. */
export async function home(url: string, token: string): Promise<Account | null> {
  return (await ask(url, token, PortalHomeDocument)).viewer.account;
}

/** Why a server cannot be started now, or null where it can. A code that this client does not know is a refusal. */
export function whyNotStarted(gates: readonly Gate[]): string | null {
  const start = gates.find((gate) => gate.action === "START");
  return start?.allowed ? null : (start?.message ?? "This cannot be asked for now.");
}

/** Pay an invoice; `key` is new for each press of the button. */
export async function pay(url: string, token: string, invoiceId: string, key: string): Promise<string> {
  const { invoicePay } = await ask(url, token, PayDocument, { invoiceId, key });
  return nextStep(invoicePay);
}

function nextStep({ state, errors }: PayMutation["invoicePay"]): string {
  const declined: ErrorCode = "CARD_DECLINED";
  switch (state) {
    case "SUCCEEDED":
      return "paid";
    case "REQUIRES_ACTION":
      return "confirm at the bank, then ask again with the same key";
    case "PROCESSING":
      return "ask again later with the same key";
    default: // FAILED, none at all, or one that the API has added since
      if (errors.some(({ code }) => code === declined)) return "offer another card, with a new key";
      return errors.map(({ message }) => message).join("; ");
  }
}
