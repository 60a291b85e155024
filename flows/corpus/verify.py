"""Command ``ffavatar verify``: check a corpus's files, and say what is damaged, what needs it and what to do."""

from __future__ import annotations

from infra.console import SOME_FAILED, ProgressBar, print_table, say
from infra.storage import open_store
from pipelines.engine.verification import verify_corpus

_MOST_SHOWN = 50


def verify_command(corpus: str, deep: bool) -> int:
    """Run ``ffavatar verify``.

    Args:
        corpus: URI of the corpus.
        deep: True to compute the sha256 of every file.

    Returns:
        The exit status: 0 if every file is whole, otherwise 1.
    """
    store, counted = open_store(corpus), 0
    with ProgressBar("verify") as bar:

        def count(done: int, total: int) -> None:
            nonlocal counted
            counted = total
            bar.update("files", done, total)

        found = verify_corpus(store, deep, count)
    if found:
        rows = [(damage.path, damage.problem, damage.needed_by, damage.remedy) for damage in found[:_MOST_SHOWN]]
        print_table(f"damaged in {store.uri}", ("file", "problem", "needed by", "what to do"), rows)
    how = "by size and digest" if deep else "by size; --deep compares digests too"
    say("{n} files checked {how}: {bad} damaged or missing", n=counted, how=how, bad=len(found))
    return SOME_FAILED if found else 0
