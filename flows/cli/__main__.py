"""Entry point of ``python -m flows.cli``, the same as ``ffavatar``."""

from flows.cli import main

main()
