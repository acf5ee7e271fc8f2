"""`python -m sqlite_sync.cli` is `sqlite-sync`."""

from sqlite_sync.cli import main

main()
