"""Every door into the system: HTTP, GraphQL, webhooks, the command line. Wakes the reconciler, never runs a playbook."""
