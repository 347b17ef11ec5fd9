import numpy as np
import pytest
import torch

from intel_scenes.data.batches import EvalBatches, TrainBatches, order
from intel_scenes.data.mixing import Mixing
from intel_scenes.data.pipelines import ImagePipeline, View
from intel_scenes.data.store import Batch, Stored
from tests.data.pixels import MEAN, STD, WHOLE

NUM = 100
CHOSEN = np.arange(3, NUM, 2)  # 49 images


@pytest.fixture
def images() -> Stored:
    """Image i shows i everywhere, has label i % 7, and lies in row 2 i + 1 of the pixels."""
    pixels = np.zeros((2 * NUM + 1, 4, 4, 3), dtype=np.uint8)
    pixels[1::2] = np.arange(NUM)[:, None, None, None]
    return Stored(torch.from_numpy(pixels), torch.arange(NUM) % 7, 2 * torch.arange(NUM) + 1)


def train(
    images: Stored, *, batch_size: int = 8, seed: int = 1, epoch: int = 0, rank: int = 0, num_ranks: int = 1
) -> list[list[int]]:
    batches = TrainBatches(images, CHOSEN, batch_size, seed, lambda: epoch, rank, num_ranks)
    result = [shown(batch) for batch in batches]
    assert len(result) == len(batches)
    return result


def evaluated(images: Stored, num: int, batch_size: int, rank: int = 0, num_ranks: int = 1) -> list[list[int]]:
    batches = EvalBatches(images, np.arange(num), batch_size, rank, num_ranks)
    result = [shown(batch) for batch in batches]
    assert len(result) == len(batches)
    return result


def shown(batch: Batch) -> list[int]:
    """The images of a batch, read off their pixels; labels and positions have to fit."""
    seen: list[int] = batch.images[:, 0, 0, 0].tolist()
    assert batch.indices.tolist() == seen
    assert batch.labels.tolist() == [index % 7 for index in seen]
    return seen


@pytest.mark.parametrize("num", [1, 10, 12_630])
def test_an_epochs_order_is_a_permutation(num: int) -> None:
    assert np.array_equal(np.sort(order(3, 5, num)), np.arange(num))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    np.random.seed(0)
    first = order(3, 5, 50)
    np.random.seed(1)
    assert np.array_equal(order(3, 5, 50), first)
    orders = {tuple(order(seed, epoch, 50)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100  # seed and epoch are not merely added


def test_an_epoch_shows_each_chosen_image_at_most_once_in_full_batches(images: Stored) -> None:
    batches = train(images)
    assert [len(batch) for batch in batches] == [8] * 6  # 49 images
    flat = np.concatenate(batches)
    assert len(set(flat)) == 48
    assert set(flat) < set(CHOSEN)


def test_every_image_is_seen_within_some_epochs(images: Stored) -> None:
    left_out = [set(CHOSEN) - set(np.concatenate(train(images, epoch=epoch))) for epoch in range(20)]
    assert all(len(out) == 1 for out in left_out)
    assert len(set.union(*left_out)) > 5


def test_batches_change_with_the_epoch_and_the_seed_and_nothing_else(images: Stored) -> None:
    first = train(images, seed=1, epoch=0)
    torch.manual_seed(123)
    np.random.seed(123)
    assert train(images, seed=1, epoch=0) == first
    assert train(images, seed=1, epoch=1) != first
    assert train(images, seed=2, epoch=0) != first


def test_the_order_does_not_depend_on_the_batch_size(images: Stored) -> None:
    small, large = np.concatenate(train(images, batch_size=4)), np.concatenate(train(images, batch_size=24))
    assert np.array_equal(small, large)


def test_the_epoch_is_read_when_an_epoch_starts(images: Stored) -> None:
    epochs = iter([0, 1])
    batches = TrainBatches(images, CHOSEN, 8, seed=1, epoch=lambda: next(epochs))
    first, second = ([shown(batch) for batch in batches] for _ in range(2))
    assert first == train(images, epoch=0)
    assert second == train(images, epoch=1)


@pytest.mark.parametrize(("batch_size", "num_ranks"), [(8, 2), (8, 4), (6, 3), (2, 2), (49, 7), (13, 3)])
def test_ranks_together_train_on_the_global_batches(images: Stored, batch_size: int, num_ranks: int) -> None:
    alone = train(images, batch_size=batch_size)
    shares = [train(images, batch_size=batch_size, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert [np.concatenate(parts).tolist() for parts in zip(*shares, strict=True)] == alone
    sizes = {len(batch) for share in shares for batch in share}
    assert sizes == {batch_size // num_ranks, -(-batch_size // num_ranks)}


def test_images_are_mixed_as_in_one_process_whatever_the_number_of_ranks(images: Stored) -> None:
    """Batches of 13 images in slices of 5, 4 and 4: the last image of a slice is mixed with the first of the next."""
    mixed = ImagePipeline(View(4, 4, "bilinear", MEAN, STD), WHOLE, Mixing(0.4, 1.0), tta=1, seed=1)
    # The drawn pixels are constant, so that CutMix could not be seen in them.
    noise = Stored(torch.randint(0, 256, (2 * NUM + 1, 4, 4, 3), dtype=torch.uint8), images.labels, images.rows)

    def inputs(rank: int, num_ranks: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        batches = TrainBatches(noise, CHOSEN, 13, 1, lambda: 0, rank, num_ranks, with_neighbours=mixed.mixes)
        return [mixed.train_batch(batch, epoch=0, size=4, num_classes=7) for batch in batches]

    for one, *shares in zip(inputs(0, 1), *(inputs(rank, 3) for rank in range(3)), strict=True):
        assert [len(pixels) for pixels, _ in shares] == [5, 4, 4]
        for whole, parts in zip(one, zip(*shares, strict=True), strict=True):
            assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(
    ("num", "batch_size", "sizes"),
    [(10, 4, [4, 3, 3]), (33, 32, [17, 16]), (64, 32, [32, 32]), (5, 32, [5]), (1, 1, [1]), (3, 1, [1, 1, 1])],
)
def test_evaluation_yields_every_image_once_in_order_in_batches_of_nearly_equal_size(
    images: Stored, num: int, batch_size: int, sizes: list[int]
) -> None:
    batches = evaluated(images, num, batch_size)
    assert [len(batch) for batch in batches] == sizes
    assert np.concatenate(batches).tolist() == list(range(num))


@pytest.mark.parametrize(
    ("num", "batch_size", "num_ranks"),
    [(99, 8, 2), (33, 32, 2), (10, 4, 2), (50, 12, 4), (7, 32, 4), (9, 2, 2), (5, 4, 3)],
)
def test_ranks_evaluate_every_image_once_in_the_same_number_of_batches(
    images: Stored, num: int, batch_size: int, num_ranks: int
) -> None:
    shares = [evaluated(images, num, batch_size, rank, num_ranks) for rank in range(num_ranks)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(np.concatenate([batch for share in shares for batch in share])) == list(range(num))
    assert all(batch == sorted(batch) for share in shares for batch in share)


@pytest.mark.parametrize(
    ("num", "batch_size", "num_ranks"),
    [(99, 8, 2), (33, 32, 2), (10, 4, 2), (50, 12, 4), (7, 32, 4), (9, 2, 2), (5, 4, 3)],
)
def test_no_rank_evaluates_an_empty_batch(images: Stored, num: int, batch_size: int, num_ranks: int) -> None:
    """The mean loss of none would be nan."""
    for rank in range(num_ranks):
        assert min(len(batch) for batch in evaluated(images, num, batch_size, rank, num_ranks)) > 0


def test_evaluation_takes_the_chosen_images_in_their_order(images: Stored) -> None:
    batches = EvalBatches(images, np.array([40, 7, 23]), batch_size=2)
    assert [shown(batch) for batch in batches] == [[40, 7], [23]]
    assert [shown(batch) for batch in batches] == [[40, 7], [23]]  # again, for the next epoch


def test_batches_that_are_kept_do_not_change(images: Stored) -> None:
    batches = TrainBatches(images, CHOSEN, 2, seed=1, epoch=lambda: 0)
    held = list(batches)
    assert [shown(batch) for batch in held] == train(images, batch_size=2)


def test_an_epoch_of_several_passes_has_the_batches_of_as_many_epochs_of_one(images: Stored) -> None:
    of_one = [train(images, epoch=epoch) for epoch in range(6)]
    of_three = [
        [shown(batch) for batch in TrainBatches(images, CHOSEN, 8, 1, lambda epoch=epoch: epoch, passes=3)]
        for epoch in (0, 1)
    ]
    assert of_three == [[*of_one[0], *of_one[1], *of_one[2]], [*of_one[3], *of_one[4], *of_one[5]]]
    assert len(of_three[0]) == len(TrainBatches(images, CHOSEN, 8, 1, lambda: 0, passes=3)) == 18


def test_batches_of_given_sizes_show_each_image_of_a_pass_once_in_its_order(images: Stored) -> None:
    sizes = [[8, 16, 25], [49], [40, 9], [24, 25]]
    for epoch in (0, 1):
        batches = TrainBatches(images, CHOSEN, 8, 1, lambda epoch=epoch: epoch, passes=2, sizes=sizes)
        seen = [shown(batch) for batch in batches]
        assert [len(batch) for batch in seen] == [*sizes[2 * epoch], *sizes[2 * epoch + 1]]
        assert len(batches) == len(seen)
        images_of_epoch = np.concatenate(seen)
        for number, of_pass in enumerate((images_of_epoch[:49], images_of_epoch[49:])):
            assert of_pass.tolist() == CHOSEN[order(1, 2 * epoch + number, 49)].tolist()


def test_a_full_batch_of_features_holds_each_image_once_and_is_gathered_once() -> None:
    features = Stored(torch.arange(NUM, dtype=torch.float32)[:, None], torch.arange(NUM) % 7, torch.arange(NUM))
    first, second = TrainBatches(features, CHOSEN, 49, 1, lambda: 0, passes=2)
    assert first.images[:, 0].tolist() == first.indices.tolist() == CHOSEN.tolist()
    assert first.labels.tolist() == [index % 7 for index in CHOSEN]
    assert second is first


def test_a_full_batch_of_images_has_a_new_order_for_each_pass_because_neighbours_are_mixed(images: Stored) -> None:
    (first,), (second,) = train(images, batch_size=49), train(images, batch_size=49, epoch=1)
    assert first != second
    assert sorted(first) == sorted(second) == CHOSEN.tolist()
