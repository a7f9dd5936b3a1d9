"""`python -m noisynets`, the same as the command `noisynets`."""

from noisynets.cli import main

main()
