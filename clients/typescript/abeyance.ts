// Written by `make clients` from ../operations and the schema: change those, not this.
/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
import type { DocumentTypeDecoration } from '@graphql-typed-document-node/core';
/** What a customer can do about an announcement; the portal knows which of its pages that is. */
export type AnnouncementAction =
  | 'PAY'
  | 'RENEW'
  | 'ADD_MONEY'
  | 'ADD_CARD'
  | '%future added value';

/** What a stage or a hold does. */
export type Effect =
  | 'LOCK_BACKUPS'
  | 'STOP_SERVERS'
  | 'LOCK_ACCOUNT'
  | '%future added value';

/** Stable codes that programs branch on; people read the message. */
export type ErrorCode =
  | 'NOT_FOUND'
  | 'FORBIDDEN'
  | 'INVALID'
  | 'CONFLICT'
  | 'IDEMPOTENCY_MISMATCH'
  | 'GATE_REFUSED'
  | 'VOUCHER_UNKNOWN'
  | 'VOUCHER_USED'
  | 'VOUCHER_EXPIRED'
  | 'CURRENCY_MISMATCH'
  | 'CARD_DECLINED'
  | 'CARD_DUPLICATE'
  | 'CARD_LAST_IN_USE'
  | 'AUTHENTICATION_REQUIRED'
  | 'INVOICE_NOT_OPEN'
  | 'INSUFFICIENT_FUNDS'
  | 'REASON_REQUIRED'
  | 'EXPIRY_REQUIRED'
  | 'EXPIRY_IN_PAST'
  | 'EXPIRY_TOO_LATE'
  | 'SAME_PERSON'
  | 'DESTRUCTIVE_REFUSED'
  | 'STALE_PLAN'
  | 'PROVIDER_UNAVAILABLE'
  | '%future added value';

/** What a customer may ask to do. */
export type GateAction =
  | 'START'
  | 'RESTART'
  | 'STOP'
  | 'DEPLOY'
  | 'RESIZE'
  | 'REINSTALL'
  | 'DELETE_SERVER'
  | 'EDIT_ACCOUNT'
  | 'REPAIR'
  | 'CREATE_BACKUP'
  | 'RESTORE_BACKUP'
  | 'DELETE_BACKUP'
  | 'PRUNE_BACKUP'
  | 'EXPORT_BACKUP'
  | 'READ_FILES'
  | 'WRITE_FILES'
  | '%future added value';

/** The stable answer of a gate; programs branch on this, people read the message. */
export type GateCode =
  | 'OK'
  | 'PAYMENT_OVERDUE'
  | 'ACCOUNT_SUSPENDED'
  | 'ACCOUNT_LOCKED'
  | 'BACKUPS_LOCKED'
  | 'SERVER_HELD'
  | 'NO_PAYMENT_METHOD'
  | 'INSUFFICIENT_FUNDS'
  | 'UNKNOWN_SKU'
  | 'SERVER_GONE'
  | '%future added value';

/** Where an invoice is in its life. */
export type InvoiceStatus =
  | 'DRAFT'
  | 'OPEN'
  | 'PAID'
  | 'VOID'
  | 'UNCOLLECTIBLE'
  | '%future added value';

/** An amount of one currency; the decimal has exactly the currency's digits: "12.50" of EUR, "1250" of JPY. */
export type MoneyInput = {
  readonly amount: string;
  readonly currency: string;
};

/** What a customer may pay an invoice with, in the order in which it is spent. */
export type PayWith =
  | 'VOUCHER'
  | 'BALANCE'
  | 'CARD'
  | '%future added value';

/** Where the money of one payment came from. */
export type PaymentSource =
  | 'VOUCHER'
  | 'BALANCE'
  | 'CARD'
  | 'OUT_OF_BAND'
  | 'CREDIT_NOTE'
  | 'STRIPE'
  | 'WRITE_OFF'
  | '%future added value';

/** Where a payment is, as its customer is told. */
export type PaymentState =
  | 'SUCCEEDED'
  | 'PROCESSING'
  | 'REQUIRES_ACTION'
  | 'FAILED'
  | '%future added value';

/** Who may do what; everything not granted is denied. */
export type Role =
  | 'CUSTOMER'
  | 'SUPPORT'
  | 'ADMIN'
  | 'INFRA'
  | 'CONTROL'
  | '%future added value';

/** What a server is to its owner; follows the holds, not the observation. */
export type ServerStatus =
  | 'PROVISIONING'
  | 'ACTIVE'
  | 'INACTIVE'
  | 'DELINQUENT'
  | 'HELD'
  | 'MISSING'
  | 'FAILED'
  | 'DELETED'
  | '%future added value';

/** How loudly the portal shows an announcement. */
export type Severity =
  | 'INFO'
  | 'WARNING'
  | 'CRITICAL'
  | '%future added value';

/** The rungs of the ladder, mildest first. */
export type Stage =
  | 'CURRENT'
  | 'PAST_DUE'
  | 'FINAL_NOTICE'
  | 'SUSPENDED'
  | 'RETAINED'
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