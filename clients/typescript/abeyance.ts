// Written by `make clients` from ../operations and the schema: change those, not this.
/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
import type { DocumentTypeDecoration } from '@graphql-typed-document-node/core';
/** What a customer can do about an announcement; the portal knows which of its pages that is. */
export type AnnouncementAction =
  /** Pay what is overdue. */
  | 'PAY'
  /** Renew the subscription of servers that are not covered any more. */
  | 'RENEW'
  /** Put money on the balance, or redeem a voucher. */
  | 'ADD_MONEY'
  /** Save a card. */
  | 'ADD_CARD'
  | '%future added value';

/** What a stage or a hold does. */
export type Effect =
  /** Backups cannot be deleted, and none is made. */
  | 'LOCK_BACKUPS'
  /** Servers are off, and are not started. */
  | 'STOP_SERVERS'
  /** The account cannot be changed, and its people lose access to the platform. */
  | 'LOCK_ACCOUNT'
  | '%future added value';

/** Stable codes that programs branch on; people read the message. */
export type ErrorCode =
  /** There is no such thing, or it is somebody else's. */
  | 'NOT_FOUND'
  /** The caller, or the account's policy, may not have this done. */
  | 'FORBIDDEN'
  /** A field is not as it has to be; `path` and `message` say which and how. */
  | 'INVALID'
  /** It does not fit what is so now; `message` says what, and whether to wait. */
  | 'CONFLICT'
  /** The key was used for another request. */
  | 'IDEMPOTENCY_MISMATCH'
  /** A gate is closed; `gate` says why. */
  | 'GATE_REFUSED'
  /** There is no voucher of this code. */
  | 'VOUCHER_UNKNOWN'
  /** The voucher was redeemed before. */
  | 'VOUCHER_USED'
  /** The voucher has ended, or was withdrawn. */
  | 'VOUCHER_EXPIRED'
  /** The amount is not in the account's currency. */
  | 'CURRENCY_MISMATCH'
  /** The bank refused the card. */
  | 'CARD_DECLINED'
  /** The same card is saved already. */
  | 'CARD_DUPLICATE'
  /** The last card that can be charged stays while something rests on it. */
  | 'CARD_LAST_IN_USE'
  /** The bank wants its customer to confirm first. */
  | 'AUTHENTICATION_REQUIRED'
  /** Nothing can be paid on this invoice. */
  | 'INVOICE_NOT_OPEN'
  /** What was named does not suffice; `message` says how much is missing. */
  | 'INSUFFICIENT_FUNDS'
  /** Say why. */
  | 'REASON_REQUIRED'
  /** Say until when. */
  | 'EXPIRY_REQUIRED'
  /** The end is past. */
  | 'EXPIRY_IN_PAST'
  /** The end is later than the caller may say. */
  | 'EXPIRY_TOO_LATE'
  /** The second vote has to be another person's, and both have to be named ones. */
  | 'SAME_PERSON'
  /** What restricts or destroys can never be asked for. */
  | 'DESTRUCTIVE_REFUSED'
  /** There is no such plan, or it is older than 24 hours. */
  | 'STALE_PLAN'
  /** Stripe does not answer, or is not set up; nothing is lost, so ask again. */
  | 'PROVIDER_UNAVAILABLE'
  | '%future added value';

/** What a customer may ask to do. */
export type GateAction =
  /** Start a server. */
  | 'START'
  /** Restart a server. */
  | 'RESTART'
  /** Stop a server. */
  | 'STOP'
  /** Order a new server; asked of the account. */
  | 'DEPLOY'
  /** Change the size of a server. */
  | 'RESIZE'
  /** Set a server up anew. */
  | 'REINSTALL'
  /** Delete a server. */
  | 'DELETE_SERVER'
  /** Change the account; asked of the account. */
  | 'EDIT_ACCOUNT'
  /** Let the platform repair a server by itself. */
  | 'REPAIR'
  /** Make a backup. */
  | 'CREATE_BACKUP'
  /** Put a backup back. */
  | 'RESTORE_BACKUP'
  /** Delete a backup. */
  | 'DELETE_BACKUP'
  /** Delete backups by their age or number. */
  | 'PRUNE_BACKUP'
  /** Download a backup. */
  | 'EXPORT_BACKUP'
  /** List and download files. */
  | 'READ_FILES'
  /** Upload, change and delete files. */
  | 'WRITE_FILES'
  | '%future added value';

/** The stable answer of a gate; programs branch on this, people read the message. */
export type GateCode =
  /** It may be done. */
  | 'OK'
  /** A payment is overdue, or the server is not covered any more. */
  | 'PAYMENT_OVERDUE'
  /** Servers are stopped because of what is overdue. */
  | 'ACCOUNT_SUSPENDED'
  /** The account is locked because of what is overdue. */
  | 'ACCOUNT_LOCKED'
  /** Backups are locked because of what is overdue. */
  | 'BACKUPS_LOCKED'
  /** The server is held by its owner, by staff, for maintenance or because of abuse. */
  | 'SERVER_HELD'
  /** There is neither a card nor any voucher balance. */
  | 'NO_PAYMENT_METHOD'
  /** There is no card, and the voucher balance does not suffice. */
  | 'INSUFFICIENT_FUNDS'
  /** The price list has no such size in the account's currency. */
  | 'UNKNOWN_SKU'
  /** The server was deleted, or its platform does not show it. */
  | 'SERVER_GONE'
  | '%future added value';

/** Where an invoice is in its life. */
export type InvoiceStatus =
  /** It may still change and is not owed; customers do not see it. */
  | 'DRAFT'
  /** It is to be paid. */
  | 'OPEN'
  /** It is paid. */
  | 'PAID'
  /** It was never owed. */
  | 'VOID'
  /** Nobody asks for it any more; it was not paid. */
  | 'UNCOLLECTIBLE'
  | '%future added value';

/** An amount of one currency; the decimal has exactly the currency's digits: "12.50" of EUR, "1250" of JPY. */
export type MoneyInput = {
  /** How much, with exactly the digits of its currency. */
  readonly amount: string;
  /** The ISO 4217 code, such as `EUR`. */
  readonly currency: string;
};

/** What a customer may pay an invoice with, in the order in which it is spent. */
export type PayWith =
  /** What vouchers brought. */
  | 'VOUCHER'
  /** The cash with us. */
  | 'BALANCE'
  /** One saved card. */
  | 'CARD'
  | '%future added value';

/** Where the money of one payment came from. */
export type PaymentSource =
  /** What vouchers brought. */
  | 'VOUCHER'
  /** The cash with us. */
  | 'BALANCE'
  /** A saved card. */
  | 'CARD'
  /** Money that arrived outside Stripe. */
  | 'OUT_OF_BAND'
  /** A reduction. */
  | 'CREDIT_NOTE'
  /** Paid at Stripe, by means that it does not tell us. */
  | 'STRIPE'
  /** What nobody has to pay any more. */
  | 'WRITE_OFF'
  | '%future added value';

/** Where a payment is, as its customer is told. */
export type PaymentState =
  /** It is paid. */
  | 'SUCCEEDED'
  /** It is on its way, or nobody knows yet: send the same request with the same key again later. */
  | 'PROCESSING'
  /** The bank wants its customer: confirm with `clientSecret`, then send the same request again. */
  | 'REQUIRES_ACTION'
  /** It is not paid; `errors` says why. */
  | 'FAILED'
  | '%future added value';

/** Who may do what; everything not granted is denied. */
export type Role =
  /** A customer, for its own accounts. */
  | 'CUSTOMER'
  /** Staff who help customers. */
  | 'SUPPORT'
  /** Staff who decide. */
  | 'ADMIN'
  /** Staff who run the platforms; without money and personal data. */
  | 'INFRA'
  /** The control plane: a program that tells of accounts and servers. */
  | 'CONTROL'
  | '%future added value';

/** What a server is to its owner; follows the holds, not the observation. */
export type ServerStatus =
  /** It is being set up. */
  | 'PROVISIONING'
  /** Nothing keeps it from running. */
  | 'ACTIVE'
  /** Its owner has switched it off. */
  | 'INACTIVE'
  /** It is stopped because of what is overdue; a payment brings it back. */
  | 'DELINQUENT'
  /** It is stopped by staff, for maintenance or because of abuse. */
  | 'HELD'
  /** Its platform does not show it. */
  | 'MISSING'
  /** It was never set up. */
  | 'FAILED'
  /** It is gone. */
  | 'DELETED'
  | '%future added value';

/** How loudly the portal shows an announcement. */
export type Severity =
  /** Good to know. */
  | 'INFO'
  /** Something is going to be restricted. */
  | 'WARNING'
  /** Something is restricted. */
  | 'CRITICAL'
  | '%future added value';

/** The rungs of the ladder, mildest first. */
export type Stage =
  /** Nothing is overdue that counts. */
  | 'CURRENT'
  /** Something is overdue; little is closed. */
  | 'PAST_DUE'
  /** The last notice before servers are stopped. */
  | 'FINAL_NOTICE'
  /** Servers are stopped; a payment brings them back. */
  | 'SUSPENDED'
  /** As before; the data is kept. */
  | 'RETAINED'
  /** People may decide about removing the servers. This software never does. */
  | 'DECOMMISSION_REVIEW'
  | '%future added value';

export type BannerQueryVariables = Exact<{ [key: string]: never; }>;


export type BannerQuery = { readonly viewer: { readonly account: { readonly announcement: { readonly severity: Severity, readonly code: string, readonly title: string, readonly body: string, readonly deadline: string | null, readonly since: string, readonly action: AnnouncementAction, readonly actionLabel: string, readonly stillWorks: ReadonlyArray<string> } | null } | null } };

export type BeginCardMutationVariables = Exact<{ [key: string]: never; }>;


export type BeginCardMutation = { readonly cardSetupBegin: { readonly setupIntentId: string | null, readonly clientSecret: string | null, readonly errors: ReadonlyArray<{ readonly code: ErrorCode, readonly message: string, readonly path: ReadonlyArray<string> | null }> } };

export type CardsQueryVariables = Exact<{ [key: string]: never; }>;


export type CardsQuery = { readonly viewer: { readonly account: { readonly cards: ReadonlyArray<{ readonly id: string, readonly brand: string, readonly last4: string, readonly expMonth: number, readonly expYear: number, readonly isDefault: boolean, readonly usable: boolean }> } | null } };

export type ChooseCardMutationVariables = Exact<{
  cardId: string | number;
}>;


export type ChooseCardMutation = { readonly cardSetDefault: { readonly account: { readonly cards: ReadonlyArray<{ readonly id: string, readonly isDefault: boolean }> } | null, readonly errors: ReadonlyArray<{ readonly code: ErrorCode, readonly message: string, readonly path: ReadonlyArray<string> | null }> } };

export type KeepCardMutationVariables = Exact<{
  setupIntentId: string;
}>;


export type KeepCardMutation = { readonly cardAdd: { readonly card: { readonly id: string, readonly brand: string, readonly last4: string, readonly expMonth: number, readonly expYear: number, readonly isDefault: boolean, readonly usable: boolean } | null, readonly errors: ReadonlyArray<{ readonly code: ErrorCode, readonly message: string, readonly path: ReadonlyArray<string> | null }> } };

export type LiveSubscriptionVariables = Exact<{ [key: string]: never; }>;


export type LiveSubscription = { readonly accountChanged: { readonly id: string, readonly standing: { readonly stage: Stage }, readonly announcement: { readonly code: string } | null, readonly servers: { readonly edges: ReadonlyArray<{ readonly node: { readonly id: string, readonly status: ServerStatus, readonly restoring: boolean } }> } } };

export type MoneyQueryVariables = Exact<{ [key: string]: never; }>;


export type MoneyQuery = { readonly viewer: { readonly account: { readonly runwayUntil: string | null, readonly mayDeploy: { readonly allowed: boolean, readonly code: GateCode, readonly message: string, readonly remedy: string | null, readonly missing: { readonly amount: string, readonly currency: string } | null }, readonly payToRestore: { readonly amount: string, readonly currency: string } | null } | null } };

export type PayMutationVariables = Exact<{
  invoiceId: string | number;
  sources?: ReadonlyArray<PayWith> | PayWith | null | undefined;
  cardId?: string | number | null | undefined;
  key: string;
}>;


export type PayMutation = { readonly invoicePay: { readonly state: PaymentState | null, readonly clientSecret: string | null, readonly invoice: { readonly status: InvoiceStatus, readonly payable: boolean, readonly amountDue: { readonly amount: string, readonly currency: string }, readonly payments: ReadonlyArray<{ readonly source: PaymentSource, readonly amount: { readonly amount: string }, readonly card: { readonly brand: string, readonly last4: string } | null }> } | null, readonly account: { readonly standing: { readonly stage: Stage }, readonly announcement: { readonly code: string } | null } | null, readonly errors: ReadonlyArray<{ readonly code: ErrorCode, readonly message: string, readonly path: ReadonlyArray<string> | null }> } };

export type PortalHomeQueryVariables = Exact<{ [key: string]: never; }>;


export type PortalHomeQuery = { readonly viewer: { readonly role: Role, readonly account: { readonly id: string, readonly name: string, readonly announcement: { readonly severity: Severity, readonly code: string, readonly title: string, readonly body: string, readonly deadline: string | null, readonly actionUrl: string | null, readonly stillWorks: ReadonlyArray<string> } | null, readonly standing: { readonly stage: Stage, readonly since: string, readonly effects: ReadonlyArray<Effect>, readonly next: { readonly stage: Stage, readonly at: string } | null, readonly debt: { readonly amounts: ReadonlyArray<{ readonly amount: string, readonly currency: string }> } | null }, readonly servers: { readonly totalCount: number, readonly edges: ReadonlyArray<{ readonly node: { readonly id: string, readonly name: string, readonly status: ServerStatus, readonly restoring: boolean, readonly inSync: boolean, readonly gates: ReadonlyArray<{ readonly action: GateAction, readonly allowed: boolean, readonly code: GateCode, readonly message: string, readonly remedy: string | null, readonly until: string | null }> } }> }, readonly invoices: { readonly edges: ReadonlyArray<{ readonly node: { readonly id: string, readonly number: string | null, readonly status: InvoiceStatus, readonly dueOn: string | null, readonly overdue: boolean, readonly total: { readonly amount: string, readonly currency: string } } }> } } | null } };

export type PursesQueryVariables = Exact<{ [key: string]: never; }>;


export type PursesQuery = { readonly prices: ReadonlyArray<{ readonly sku: string, readonly description: string, readonly validFrom: string, readonly hourly: { readonly amount: string, readonly currency: string }, readonly monthly: { readonly amount: string, readonly currency: string } }>, readonly viewer: { readonly account: { readonly balance: { readonly amount: string, readonly currency: string }, readonly voucherBalance: { readonly amount: string, readonly currency: string }, readonly reserved: { readonly amount: string, readonly currency: string }, readonly vouchers: { readonly edges: ReadonlyArray<{ readonly node: { readonly redeemedAt: string | null, readonly value: { readonly amount: string, readonly currency: string } } }> }, readonly ledger: { readonly edges: ReadonlyArray<{ readonly node: { readonly at: string, readonly kind: string, readonly description: string, readonly amount: { readonly amount: string, readonly currency: string }, readonly toInvoice: { readonly amount: string, readonly currency: string }, readonly invoice: { readonly number: string | null } | null, readonly voucher: { readonly value: { readonly amount: string, readonly currency: string } } | null } }>, readonly pageInfo: { readonly hasNextPage: boolean, readonly endCursor: string | null } } } | null } };

export type RedeemMutationVariables = Exact<{
  code: string;
  key: string;
}>;


export type RedeemMutation = { readonly voucherRedeem: { readonly account: { readonly voucherBalance: { readonly amount: string, readonly currency: string }, readonly standing: { readonly stage: Stage }, readonly announcement: { readonly code: string } | null } | null, readonly errors: ReadonlyArray<{ readonly code: ErrorCode, readonly message: string, readonly path: ReadonlyArray<string> | null }> } };

export type RemoveCardMutationVariables = Exact<{
  cardId: string | number;
}>;


export type RemoveCardMutation = { readonly cardRemove: { readonly account: { readonly cards: ReadonlyArray<{ readonly id: string, readonly isDefault: boolean }> } | null, readonly errors: ReadonlyArray<{ readonly code: ErrorCode, readonly message: string, readonly path: ReadonlyArray<string> | null }> } };

export type ServersQueryVariables = Exact<{ [key: string]: never; }>;


export type ServersQuery = { readonly viewer: { readonly account: { readonly servers: { readonly edges: ReadonlyArray<{ readonly node: { readonly id: string, readonly name: string, readonly status: ServerStatus, readonly restoring: boolean, readonly inSync: boolean, readonly gates: ReadonlyArray<{ readonly action: GateAction, readonly allowed: boolean, readonly code: GateCode, readonly message: string, readonly remedy: string | null, readonly until: string | null, readonly checkedAt: string }> } }> } } | null } };

export type TasksQueryVariables = Exact<{ [key: string]: never; }>;


export type TasksQuery = { readonly viewer: { readonly account: { readonly tasks: ReadonlyArray<{ readonly kind: string, readonly message: string, readonly expiresAt: string | null, readonly clientSecret: string | null, readonly invoice: { readonly id: string, readonly number: string | null } | null }> } | null } };

export type TopUpMutationVariables = Exact<{
  amount: MoneyInput;
  cardId?: string | number | null | undefined;
  key: string;
}>;


export type TopUpMutation = { readonly balanceTopUp: { readonly state: PaymentState | null, readonly clientSecret: string | null, readonly account: { readonly balance: { readonly amount: string, readonly currency: string }, readonly payToRestore: { readonly amount: string, readonly currency: string } | null } | null, readonly errors: ReadonlyArray<{ readonly code: ErrorCode, readonly message: string, readonly path: ReadonlyArray<string> | null }> } };

export type WhyQueryVariables = Exact<{
  id: string | number;
}>;


export type WhyQuery = { readonly server: { readonly explanation: ReadonlyArray<{ readonly rule: string, readonly text: string, readonly since: string | null, readonly until: string | null, readonly ref: { readonly id: string } | null, readonly because: ReadonlyArray<{ readonly text: string, readonly because: ReadonlyArray<{ readonly text: string }> }> }> } | null };

export class TypedDocumentString<TResult, TVariables>
  extends String
  implements DocumentTypeDecoration<TResult, TVariables>
{
  __apiType?: NonNullable<DocumentTypeDecoration<TResult, TVariables>['__apiType']>;
  private value: string;
  public __meta__?: Record<string, any> | undefined;

  constructor(value: string, __meta__?: Record<string, any> | undefined) {
    super(value);
    this.value = value;
    this.__meta__ = __meta__;
  }

  override toString(): string & DocumentTypeDecoration<TResult, TVariables> {
    return this.value;
  }
}

export const BannerDocument = new TypedDocumentString(`
    query Banner {
  viewer {
    account {
      announcement {
        severity
        code
        title
        body
        deadline
        since
        action
        actionLabel
        stillWorks
      }
    }
  }
}
    `) as unknown as TypedDocumentString<BannerQuery, BannerQueryVariables>;
export const BeginCardDocument = new TypedDocumentString(`
    mutation BeginCard {
  cardSetupBegin(input: {}) {
    setupIntentId
    clientSecret
    errors {
      code
      message
      path
    }
  }
}
    `) as unknown as TypedDocumentString<BeginCardMutation, BeginCardMutationVariables>;
export const CardsDocument = new TypedDocumentString(`
    query Cards {
  viewer {
    account {
      cards {
        id
        brand
        last4
        expMonth
        expYear
        isDefault
        usable
      }
    }
  }
}
    `) as unknown as TypedDocumentString<CardsQuery, CardsQueryVariables>;
export const ChooseCardDocument = new TypedDocumentString(`
    mutation ChooseCard($cardId: ID!) {
  cardSetDefault(input: {cardId: $cardId}) {
    account {
      cards {
        id
        isDefault
      }
    }
    errors {
      code
      message
      path
    }
  }
}
    `) as unknown as TypedDocumentString<ChooseCardMutation, ChooseCardMutationVariables>;
export const KeepCardDocument = new TypedDocumentString(`
    mutation KeepCard($setupIntentId: String!) {
  cardAdd(input: {setupIntentId: $setupIntentId, makeDefault: true}) {
    card {
      id
      brand
      last4
      expMonth
      expYear
      isDefault
      usable
    }
    errors {
      code
      message
      path
    }
  }
}
    `) as unknown as TypedDocumentString<KeepCardMutation, KeepCardMutationVariables>;
export const LiveDocument = new TypedDocumentString(`
    subscription Live {
  accountChanged {
    id
    standing {
      stage
    }
    announcement {
      code
    }
    servers(first: 20) {
      edges {
        node {
          id
          status
          restoring
        }
      }
    }
  }
}
    `) as unknown as TypedDocumentString<LiveSubscription, LiveSubscriptionVariables>;
export const MoneyDocument = new TypedDocumentString(`
    query Money {
  viewer {
    account {
      mayDeploy(sku: "small-ip") {
        allowed
        code
        message
        remedy
        missing {
          amount
          currency
        }
      }
      runwayUntil
      payToRestore {
        amount
        currency
      }
    }
  }
}
    `) as unknown as TypedDocumentString<MoneyQuery, MoneyQueryVariables>;
export const PayDocument = new TypedDocumentString(`
    mutation Pay($invoiceId: ID!, $sources: [PayWith!], $cardId: ID, $key: String!) {
  invoicePay(
    input: {invoiceId: $invoiceId, sources: $sources, cardId: $cardId, idempotencyKey: $key}
  ) {
    state
    clientSecret
    invoice {
      status
      payable
      amountDue {
        amount
        currency
      }
      payments {
        source
        amount {
          amount
        }
        card {
          brand
          last4
        }
      }
    }
    account {
      standing {
        stage
      }
      announcement {
        code
      }
    }
    errors {
      code
      message
      path
    }
  }
}
    `) as unknown as TypedDocumentString<PayMutation, PayMutationVariables>;
export const PortalHomeDocument = new TypedDocumentString(`
    query PortalHome {
  viewer {
    role
    account {
      id
      name
      announcement {
        severity
        code
        title
        body
        deadline
        actionUrl
        stillWorks
      }
      standing {
        stage
        since
        effects
        next {
          stage
          at
        }
        debt {
          amounts {
            amount
            currency
          }
        }
      }
      servers(first: 20) {
        totalCount
        edges {
          node {
            id
            name
            status
            restoring
            inSync
            gates {
              action
              allowed
              code
              message
              remedy
              until
            }
          }
        }
      }
      invoices(first: 10) {
        edges {
          node {
            id
            number
            status
            total {
              amount
              currency
            }
            dueOn
            overdue
          }
        }
      }
    }
  }
}
    `) as unknown as TypedDocumentString<PortalHomeQuery, PortalHomeQueryVariables>;
export const PursesDocument = new TypedDocumentString(`
    query Purses {
  prices {
    sku
    description
    hourly {
      amount
      currency
    }
    monthly {
      amount
      currency
    }
    validFrom
  }
  viewer {
    account {
      balance {
        amount
        currency
      }
      voucherBalance {
        amount
        currency
      }
      reserved {
        amount
        currency
      }
      vouchers(first: 20) {
        edges {
          node {
            value {
              amount
              currency
            }
            redeemedAt
          }
        }
      }
      ledger(first: 20) {
        edges {
          node {
            at
            kind
            description
            amount {
              amount
              currency
            }
            toInvoice {
              amount
              currency
            }
            invoice {
              number
            }
            voucher {
              value {
                amount
                currency
              }
            }
          }
        }
        pageInfo {
          hasNextPage
          endCursor
        }
      }
    }
  }
}
    `) as unknown as TypedDocumentString<PursesQuery, PursesQueryVariables>;
export const RedeemDocument = new TypedDocumentString(`
    mutation Redeem($code: String!, $key: String!) {
  voucherRedeem(input: {code: $code, idempotencyKey: $key}) {
    account {
      voucherBalance {
        amount
        currency
      }
      standing {
        stage
      }
      announcement {
        code
      }
    }
    errors {
      code
      message
      path
    }
  }
}
    `) as unknown as TypedDocumentString<RedeemMutation, RedeemMutationVariables>;
export const RemoveCardDocument = new TypedDocumentString(`
    mutation RemoveCard($cardId: ID!) {
  cardRemove(input: {cardId: $cardId}) {
    account {
      cards {
        id
        isDefault
      }
    }
    errors {
      code
      message
      path
    }
  }
}
    `) as unknown as TypedDocumentString<RemoveCardMutation, RemoveCardMutationVariables>;
export const ServersDocument = new TypedDocumentString(`
    query Servers {
  viewer {
    account {
      servers(first: 20) {
        edges {
          node {
            id
            name
            status
            restoring
            inSync
            gates(actions: [START, RESTART, CREATE_BACKUP]) {
              action
              allowed
              code
              message
              remedy
              until
              checkedAt
            }
          }
        }
      }
    }
  }
}
    `) as unknown as TypedDocumentString<ServersQuery, ServersQueryVariables>;
export const TasksDocument = new TypedDocumentString(`
    query Tasks {
  viewer {
    account {
      tasks {
        kind
        message
        invoice {
          id
          number
        }
        expiresAt
        clientSecret
      }
    }
  }
}
    `) as unknown as TypedDocumentString<TasksQuery, TasksQueryVariables>;
export const TopUpDocument = new TypedDocumentString(`
    mutation TopUp($amount: MoneyInput!, $cardId: ID, $key: String!) {
  balanceTopUp(input: {amount: $amount, cardId: $cardId, idempotencyKey: $key}) {
    state
    clientSecret
    account {
      balance {
        amount
        currency
      }
      payToRestore {
        amount
        currency
      }
    }
    errors {
      code
      message
      path
    }
  }
}
    `) as unknown as TypedDocumentString<TopUpMutation, TopUpMutationVariables>;
export const WhyDocument = new TypedDocumentString(`
    query Why($id: ID!) {
  server(id: $id) {
    explanation {
      rule
      text
      since
      until
      ref {
        id
      }
      because {
        text
        because {
          text
        }
      }
    }
  }
}
    `) as unknown as TypedDocumentString<WhyQuery, WhyQueryVariables>;