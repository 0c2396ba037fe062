"""Every door into the system: HTTP, GraphQL, webhooks, the command line.

Wakes the reconciler, and never runs a playbook itself.
"""
