"""What is owed and what that means. Imports neither the reconciler nor the API."""
