"""``python -m windlass`` is ``windlass``."""

from windlass.cli.main import run_command_line

run_command_line()
