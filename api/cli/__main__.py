"""`python -m api.cli`: the same as `abeyance`, wherever the checkout lies."""

from api.cli import main

main()
