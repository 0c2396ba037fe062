"""The GraphQL door: a file per noun, one table of rights, one way to page, one context per request."""
