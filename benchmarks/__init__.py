"""What the product costs beside what a user could do instead; each prints a ratio. See `make help`."""
