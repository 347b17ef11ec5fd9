"""Profiles of hypothesis: a few fixed inputs in the suite; INTEL_SCENES_EXAMPLES=10000 draws so many new ones."""

import os

from hypothesis import HealthCheck, settings

# Files are made in a folder of each input, and a shared machine may be slow for a while.
ALWAYS = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("suite", derandomize=True, max_examples=10, **ALWAYS)
settings.register_profile(
    "long", max_examples=int(os.environ.get("INTEL_SCENES_EXAMPLES", "1")), print_blob=True, **ALWAYS
)
settings.load_profile("long" if "INTEL_SCENES_EXAMPLES" in os.environ else "suite")
