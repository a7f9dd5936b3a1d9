"""`python -m noisynets.cli`."""

from noisynets.cli import main

main()
