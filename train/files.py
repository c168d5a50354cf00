"""Small files that are whole or not there."""

import json
import os
import pathlib

__all__ = ["write_json"]


def write_json(value, path):
    """Writes `value` as JSON; a reader, or a kill in between, never sees half a file."""
    path = pathlib.Path(path)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(part, path)
