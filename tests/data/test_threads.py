from collections.abc import Callable

import pytest

from intel_scenes.data.threads import for_parts


@pytest.fixture(params=[1, 2, 4], autouse=True)
def num_threads(request: pytest.FixtureRequest, on_threads: Callable[[int], None]) -> int:
    on_threads(request.param)
    return int(request.param)


@pytest.mark.parametrize("num_images", [0, 1, 3, 7, 64])
def test_every_image_is_in_one_part(num_images: int, num_threads: int) -> None:
    parts: list[range] = []
    for_parts(parts.append, num_images)
    assert sorted(index for part in parts for index in part) == list(range(num_images))
    assert len(parts) == max(1, min(num_threads, num_images))


def test_an_error_in_a_thread_is_raised_in_the_caller() -> None:
    def fail(part: range) -> None:
        raise ValueError(f"part of {len(part)}")

    with pytest.raises(ValueError, match=r"^part of "):
        for_parts(fail, 8)
