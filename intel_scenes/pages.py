"""HTML pages of all commands: templates with escaping, the common style, and small pictures."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from intel_scenes import safe_images

SIDE = 96  # longer side of a picture in pixels
_SHARED = Path(__file__).parent / "templates"


def render(template: Path, **values: object) -> str:
    """Return a filled template, which may include the common templates; every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)


def picture(path: Path) -> str | None:
    """Return a small JPEG of an image file as a data URL; None where it cannot be read."""
    try:
        with safe_images.opened(safe_images.read(path)) as image:
            small = safe_images.in_rgb(image)
    except Exception:  # corrupt files fail in many ways
        return None
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
