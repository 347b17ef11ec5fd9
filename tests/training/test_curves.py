import io

from PIL import Image

from intel_scenes.record import Epoch, History
from intel_scenes.training.curves import plot_curves


def history(*val_accuracies: float) -> History:
    epochs = [
        Epoch(
            epoch=number,
            step=10 * number,
            lr=0.1,
            train_loss=1 / (number + 1),
            train_accuracy=0.5,
            train_eval_accuracy=0.6,
            val_loss=1.1 / (number + 1),
            val_accuracy=val_accuracy,
            images_per_second=100.0,
        )
        for number, val_accuracy in enumerate(val_accuracies)
    ]
    return History(tuple(epochs))


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def test_curves_are_a_png_of_ten_by_four_inches_at_120_dots() -> None:
    image = opened(plot_curves(history(*(0.55 + 0.01 * epoch for epoch in range(10)))))
    assert image.format == "PNG"
    assert image.size == (1200, 480)


def test_a_single_epoch_is_plotted_too() -> None:
    image = opened(plot_curves(history(0.55))).convert("RGB")
    colors = {color for _, color in image.getcolors(maxcolors=1 << 20)}
    assert {(0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)} <= colors  # a mark of train and one of val


def test_the_title_names_the_best_epoch() -> None:
    def title(*val_accuracies: float) -> bytes:
        return opened(plot_curves(history(*val_accuracies))).crop((0, 0, 600, 24)).tobytes()

    assert title(0.5, 0.9, 0.6) == title(0.5, 0.9, 0.7)
    assert title(0.5, 0.9, 0.6) != title(0.5, 0.6, 0.9)
    assert title(0.9, 0.5, 0.9) == title(0.9, 0.5, 0.6)  # the first of equally good ones


def test_equal_histories_give_equal_bytes_and_others_give_others() -> None:
    three = plot_curves(history(0.55, 0.56, 0.57))
    assert plot_curves(history(0.55, 0.56, 0.57)) == three
    assert plot_curves(history(0.55, 0.56, 0.57, 0.58)) != three
    assert plot_curves(history(0.55, 0.56, 0.1)) != three
