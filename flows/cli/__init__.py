"""Command line ``ffavatar``: the command group and ``main``. Each module here has the commands for one kind of user.

A command imports the modules that it needs only when it runs. So start-up stays quick, and commands that do not use
Ray, Prefect, MLflow or DuckDB work without these packages.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flows.cli import (
    analyst_commands,
    avatar_commands,
    bench_commands,
    corpus_commands,
    operate_commands,
    sharing_commands,
    train_commands,
)
from infra.console import WRONG_CALL, CallError, complain, err, report_error, start_log
from infra.settings import load_settings, quiet_services
from mfhq.masking import has_credentials

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended."""

_MODULES = (
    corpus_commands,
    train_commands,
    avatar_commands,
    analyst_commands,
    sharing_commands,
    operate_commands,
    bench_commands,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ffavatar")
def cli() -> None:
    """From in-the-wild video to a face corpus, and from photos to an animatable 3D Gaussian head."""


for _module in _MODULES:
    for _command in _module.COMMANDS:
        cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status; an error is printed as one line, and its traceback goes to a log file.

    Args:
        arguments: Words after ``ffavatar``; by default the arguments of this process.

    Raises:
        SystemExit: The command failed (1), was called wrongly (2), or was interrupted (130).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    log_file: Path | None = None
    try:
        settings = load_settings()
        quiet_services(settings)
        refuse_credentials(words)
        log_file = start_log(settings.logs, words[0] if words and words[0].isalpha() else "help")
        cli.main(args=words, prog_name="ffavatar", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as shown:
        err.print(shown.ctx.get_help(), markup=False)
        sys.exit(WRONG_CALL)
    except click.ClickException as wrong:
        complain(" ".join(wrong.format_message().split()))
        sys.exit(WRONG_CALL)
    except (click.exceptions.Abort, KeyboardInterrupt):
        is_whole = bool(words) and words[0] in {command.name for command in avatar_commands.COMMANDS}
        resumes = "what was committed stays, and the same command goes on from there"
        stays = "its output was not written" if is_whole else resumes
        complain(f"interrupted; {stays}")
        sys.exit(INTERRUPTED)
    except Exception as error:
        sys.exit(report_error(error, log_file))


def refuse_credentials(words: Sequence[str]) -> None:
    """Refuse words that are URIs with a password: every user sees a process's words, and Prefect stores them.

    Args:
        words: Words after ``ffavatar``.

    Raises:
        CallError: A word is a URI with a user name or a password in it; the message does not repeat them.
    """
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") and "=" in word else word
        if has_credentials(value):
            raise CallError(
                f"{value}: a password in an argument can be read by every user of the machine; leave it out, and set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://"
            )
