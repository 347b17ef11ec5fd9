"""What the pages of all commands share: templates that escape what they show, the style, small pictures."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

SIDE = 96  # pixels of a picture's longer side
_SHARED = Path(__file__).parent / "templates"


def render(template: Path, **values: object) -> str:
    """A page: a template, which may include those that all pages share, filled in; every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)


def picture(path: Path) -> str | None:
    """A small JPEG of an image file as a data URL; None where there is no image."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except Exception:  # a damaged file fails anywhere in its decoder
        return None
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
