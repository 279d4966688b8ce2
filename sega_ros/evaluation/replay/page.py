"""Pages that stand alone: one file, nothing fetched, no script but its own, all text escaped."""

import base64
import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / 'templates'


def render_page(template: str, values: dict[str, Any], *, script: str = '') -> bytes:
    """Return a page of templates/`template`; `script` names a file there, the only one that the page lets run."""
    text = (_TEMPLATES / script).read_text(encoding='utf-8') if script else ''
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    page = _environment().get_template(template)
    return page.render(**values, script=Markup(text), script_hash=f'sha256-{digest}').encode()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=False)


def svg(text: str | None) -> Markup | None:
    """Mark an SVG of `draw_svg` as safe to stand in a page as it is."""
    return None if text is None else Markup(text)


def number(value: float | None, *, signed: bool = False) -> str:
    """Four digits for people; 'unknown' where there is none."""
    if value is None or not math.isfinite(value):
        return 'unknown'
    return f'{value:{"+" if signed and value else ""}.4g}'
