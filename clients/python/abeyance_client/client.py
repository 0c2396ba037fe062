from collections.abc import AsyncIterator
from typing import Any, Optional, Union

from .async_base_client import AsyncBaseClient
from .banner import Banner
from .base_model import UNSET, UnsetType
from .begin_card import BeginCard
from .cards import Cards
from .choose_card import ChooseCard
from .enums import PayWith
from .input_types import MoneyInput
from .keep_card import KeepCard
from .live import Live
from .money import Money
from .pay import Pay
from .portal_home import PortalHome
from .purses import Purses
from .redeem import Redeem
from .remove_card import RemoveCard
from .servers import Servers
from .tasks import Tasks
from .top_up import TopUp
from .why import Why


def gql(q: str) -> str:
    return q


class AbeyanceClient(AsyncBaseClient):
    async def banner(self, **kwargs: Any) -> Banner:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        response = await self.execute(
            query=query, operation_name="Banner", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Banner.model_validate(data)

    async def begin_card(self, **kwargs: Any) -> BeginCard:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        response = await self.execute(
            query=query, operation_name="BeginCard", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return BeginCard.model_validate(data)

    async def cards(self, **kwargs: Any) -> Cards:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        response = await self.execute(
            query=query, operation_name="Cards", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Cards.model_validate(data)

    async def choose_card(self, card_id: str, **kwargs: Any) -> ChooseCard:
        query = gql("""
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
            """)
        variables: dict[str, object] = {"cardId": card_id}
        response = await self.execute(
            query=query, operation_name="ChooseCard", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return ChooseCard.model_validate(data)

    async def keep_card(self, setup_intent_id: str, **kwargs: Any) -> KeepCard:
        query = gql("""
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
            """)
        variables: dict[str, object] = {"setupIntentId": setup_intent_id}
        response = await self.execute(
            query=query, operation_name="KeepCard", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return KeepCard.model_validate(data)

    async def live(self, **kwargs: Any) -> AsyncIterator[Live]:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        async for data in self.execute_ws(
            query=query, operation_name="Live", variables=variables, **kwargs
        ):
            yield Live.model_validate(data)

    async def money(self, **kwargs: Any) -> Money:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        response = await self.execute(
            query=query, operation_name="Money", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Money.model_validate(data)

    async def pay(
        self,
        invoice_id: str,
        key: str,
        sources: Union[Optional[list[PayWith]], UnsetType] = UNSET,
        card_id: Union[Optional[str], UnsetType] = UNSET,
        **kwargs: Any,
    ) -> Pay:
        query = gql("""
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
            """)
        variables: dict[str, object] = {
            "invoiceId": invoice_id,
            "sources": sources,
            "cardId": card_id,
            "key": key,
        }
        response = await self.execute(
            query=query, operation_name="Pay", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Pay.model_validate(data)

    async def portal_home(self, **kwargs: Any) -> PortalHome:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        response = await self.execute(
            query=query, operation_name="PortalHome", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return PortalHome.model_validate(data)

    async def purses(self, **kwargs: Any) -> Purses:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        response = await self.execute(
            query=query, operation_name="Purses", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Purses.model_validate(data)

    async def redeem(self, code: str, key: str, **kwargs: Any) -> Redeem:
        query = gql("""
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
            """)
        variables: dict[str, object] = {"code": code, "key": key}
        response = await self.execute(
            query=query, operation_name="Redeem", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Redeem.model_validate(data)

    async def remove_card(self, card_id: str, **kwargs: Any) -> RemoveCard:
        query = gql("""
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
            """)
        variables: dict[str, object] = {"cardId": card_id}
        response = await self.execute(
            query=query, operation_name="RemoveCard", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return RemoveCard.model_validate(data)

    async def servers(self, **kwargs: Any) -> Servers:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        response = await self.execute(
            query=query, operation_name="Servers", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Servers.model_validate(data)

    async def tasks(self, **kwargs: Any) -> Tasks:
        query = gql("""
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
            """)
        variables: dict[str, object] = {}
        response = await self.execute(
            query=query, operation_name="Tasks", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Tasks.model_validate(data)

    async def top_up(
        self,
        amount: MoneyInput,
        key: str,
        card_id: Union[Optional[str], UnsetType] = UNSET,
        **kwargs: Any,
    ) -> TopUp:
        query = gql("""
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
            """)
        variables: dict[str, object] = {"amount": amount, "cardId": card_id, "key": key}
        response = await self.execute(
            query=query, operation_name="TopUp", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return TopUp.model_validate(data)

    async def why(self, id: str, **kwargs: Any) -> Why:
        query = gql("""
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
            """)
        variables: dict[str, object] = {"id": id}
        response = await self.execute(
            query=query, operation_name="Why", variables=variables, **kwargs
        )
        data = self.get_data(response)
        return Why.model_validate(data)
