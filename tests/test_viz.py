import io

import numpy as np
import pytest
from PIL import Image

from minseg import viz

PALETTE = np.array([[10, 20, 30], [200, 100, 0], [0, 90, 180]], np.uint8)
MASK = np.array([[0, 0, 1], [2, 2, 255]])
HISTORY = [
    {"step": 10.0 * i, "train_loss": 1 / i, "val_loss": 2 / i, "val_mIoU": 0.1 * i,
     "val_pixel_accuracy": 0.2 * i}
    for i in (1, 2, 3)
]  # fmt: skip


def pixels(figure, tmp_path):
    viz.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        return np.asarray(picture.convert("RGB"))


def has(picture, colour):
    return (picture == np.array(colour)).all(axis=-1).any()


def test_colourise():
    picture = viz.colourise(MASK, PALETTE)
    np.testing.assert_array_equal(picture[0, 2], PALETTE[1])
    np.testing.assert_array_equal(picture[1, 2], [255, 255, 255])


def test_rgb_of_grey():
    grey = np.array([[[0.0], [0.5], [1.5]]])
    np.testing.assert_array_equal(viz.rgb(grey), [[[0] * 3, [128] * 3, [255] * 3]])


def test_outlines():
    np.testing.assert_array_equal(viz.outlines(MASK), [[1, 1, 1], [0, 1, 0]])
    np.testing.assert_array_equal(viz.outlines(np.array([[0, 2, 2, 0]])), [[1, 0, 1, 0]])


def test_overlay_mixes_and_leaves_void_alone():
    image = np.full((4, 6, 3), 0.4)
    mask = np.zeros((4, 6), int)
    mask[:, 3:] = 255
    picture = viz.overlay(image, mask, PALETTE, opacity=0.25)
    np.testing.assert_array_equal(picture[0, 0], np.rint(0.75 * 102 + 0.25 * PALETTE[0]))
    np.testing.assert_array_equal(picture[0, 5], [102, 102, 102])
    np.testing.assert_array_equal(picture[0, 2], [255, 255, 255])


def test_error_map():
    image = np.zeros((2, 3, 1))
    image[0, 2] = 1
    picture = viz.error_map(image, np.array([[0, 1, 1], [2, 2, 0]]), MASK)
    wrong = np.array([[0, 1, 0], [0, 0, 0]], bool)
    np.testing.assert_array_equal((picture == viz.OKABE_ITO[6]).all(axis=2), wrong)
    np.testing.assert_array_equal(picture[1, 2], [255, 255, 255])
    np.testing.assert_array_equal(picture[0, 0], [150, 150, 150])
    np.testing.assert_array_equal(picture[0, 2], [239, 239, 239])  # white: paler still


def test_palette_png_keeps_the_labels():
    with Image.open(io.BytesIO(viz.palette_png(MASK, PALETTE))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), MASK)
        shown = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(shown, viz.colourise(MASK, PALETTE))


def test_samples_figure_shows_classes_errors_and_curves(tmp_path):
    image = np.full((8, 12, 3), 0.5)
    target = np.zeros((8, 12), int)
    target[:, 6:] = 1
    prediction = np.where(np.arange(12) < 9, 0, 1) * np.ones((8, 1), int)
    figure = viz.samples_figure(
        [image] * 2, [target] * 2, [prediction] * 2, ["a", "b", "c"], PALETTE, HISTORY, "title"
    )
    picture = pixels(figure, tmp_path)
    for colour in (*PALETTE, viz.OKABE_ITO[6]):  # c is in the legend alone
        assert has(picture, colour)
    texts = [
        text.get_text() for part in figure.subfigs for axis in part.axes for text in axis.texts
    ]
    assert texts == ["25.0% wrong"] * 2  # three of twelve columns


def test_samples_of_different_sizes(tmp_path):
    sizes = [(8, 12), (14, 7)]
    masks = [np.zeros(size, int) for size in sizes]
    images = [np.zeros((*size, 1)) for size in sizes]
    figure = viz.samples_figure(images, masks, masks, ["a"], PALETTE[:1])
    assert pixels(figure, tmp_path).std() > 0
    shown = [axis.images[0].get_array().shape[:2] for axis in figure.axes if axis.images]
    assert shown == [size for size in sizes for _ in range(4)]


def test_curves_start_with_a_single_point(tmp_path):
    one = viz.curves_figure(HISTORY[:1], "one")
    assert pixels(one, tmp_path).std() > 0
    assert all(tick == round(tick) for axis in one.axes for tick in axis.get_xticks())


def test_the_figure_of_a_large_photo_holds_small_pictures_but_counts_every_pixel():
    mask = np.zeros((1500, 3000), np.uint8)
    mask[1, 1::2] = 1  # between the pixels that are shown
    figure = viz.prediction_figure(
        np.zeros((*mask.shape, 1), np.float32), mask, np.ones(mask.shape), ["a", "b"], PALETTE[:2]
    )
    shown = [axis.images[0].get_array().shape[:2] for axis in figure.axes[:3]]
    assert shown == [(750, 1500)] * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a (100.0%)", "b (0.0%)"]


def test_prediction_figure_lists_the_classes_it_found(tmp_path):
    mask = np.zeros((6, 8), int)
    mask[:, 6:] = 2
    figure = viz.prediction_figure(
        np.zeros((6, 8, 3)), mask, np.full((6, 8), 0.7), ["a", "b", "c"], PALETTE
    )
    pixels(figure, tmp_path)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a (75.0%)", "c (25.0%)"]
    picture = figure.axes[2]
    (bar,) = picture.child_axes
    sides = [(box.y0, box.y1) for box in (bar.get_position(), picture.get_position())]
    assert sides[0] == pytest.approx(sides[1])  # as high as the picture that it explains


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_strips_make_no_towers(size, tmp_path):
    image, mask = np.zeros((*size, 3)), np.zeros(size, int)
    for figure in (
        viz.prediction_figure(image, mask, np.ones(size), ["a", "b"], PALETTE[:2]),
        viz.samples_figure([image], [mask], [mask], ["a"], PALETTE[:1]),
        viz.features_figure(np.zeros((4, *size)), "head"),
    ):
        assert max(pixels(figure, tmp_path).shape) < 3000


def test_a_legend_of_many_classes_takes_nothing_from_the_pictures():
    image = np.zeros((90, 120, 3))
    heights = []
    for count in (3, 150):
        mask = np.arange(90 * 120).reshape(90, 120) % count
        names = [f"class number {index}" for index in range(count)]
        palette = np.zeros((count, 3), np.uint8)
        for figure in (
            viz.prediction_figure(image, mask, np.ones(mask.shape), names, palette),
            viz.samples_figure([image], [mask], [mask], names, palette),
        ):
            figure.draw_without_rendering()
            box = figure.axes[0].get_tightbbox()
            heights.append(box.height)
            (legend,) = figure.legends or figure.subfigs[0].legends
            extent = legend.get_tightbbox()
            assert extent.y1 < box.y0
            assert extent.x0 >= 0
            assert extent.x1 <= figure.bbox.width
    few, many = heights[:2], heights[2:]
    np.testing.assert_allclose(many, few, rtol=0.1)


def test_the_bar_of_a_strip_is_marked_once(tmp_path):
    strip = np.zeros((30, 2000), int)
    figure = viz.prediction_figure(
        np.zeros((30, 2000, 3)), strip, np.ones(strip.shape), ["a", "b"], PALETTE[:2]
    )
    pixels(figure, tmp_path)
    (bar,) = figure.axes[2].child_axes
    assert bar.get_yticks().tolist() == [1]


def test_features_figure(tmp_path):
    maps = np.random.default_rng(0).standard_normal((70, 5, 6))
    maps[3] = 2
    figure = viz.features_figure(maps, "head", most=9)
    pixels(figure, tmp_path)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["0", "1", "2", "3 dead", "4", "5", "6", "7", "8"]
    assert figure.get_suptitle() == "head: 70 x 5 x 6, the first 9 of 70 channels"


def test_names_are_shown_as_they_are(tmp_path):
    """As mathematics, these stop matplotlib with an error; from a legend, it leaves out labels that
    begin with a line. labelme's background does."""
    names = ["_background_", r"a $\nothing$ like it"]
    mask, image = np.array([[0, 1], [1, 1]]), np.zeros((2, 2, 3))
    palette = PALETTE[:2]
    samples = viz.samples_figure([image], [mask], [mask], names, palette, title=names[1])
    prediction = viz.prediction_figure(image, mask, np.ones((2, 2)), names, palette)
    curves = viz.curves_figure(HISTORY, names[1])
    for number, figure in enumerate((samples, prediction, curves)):
        viz.save(figure, tmp_path / f"{number}.png")
    shown = [text.get_text() for text in samples.subfigs[0].legends[0].get_texts()]
    assert shown == names
    shown = [text.get_text() for text in prediction.legends[0].get_texts()]
    assert shown == [f"{names[0]} (25.0%)", f"{names[1]} (75.0%)"]
