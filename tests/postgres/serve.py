"""Runs an embedded server for another process: says its conninfo in one line, and ends when its input does.

python serve.py [--remove] DATA_DIR [SETTING=VALUE …]

`--remove` removes the data directory at the end, whatever became of who asked for it.
"""

import logging
from pathlib import Path
import shutil
import sys

import structlog
import trio

from opendesk.postgres.embedded.lifetime import embedded_server


async def main(data_dir: Path, *settings: str) -> None:
    async with embedded_server(data_dir, settings=dict(setting.split("=", 1) for setting in settings)) as conninfo:
        print(conninfo, flush=True)  # noqa: T201 - what this is for
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    remove = sys.argv[1] == "--remove"
    data_dir, *settings = sys.argv[2:] if remove else sys.argv[1:]
    try:
        trio.run(main, Path(data_dir), *settings)
    finally:
        if remove:
            shutil.rmtree(data_dir)
