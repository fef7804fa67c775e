"""U-Net: copy, crop and concatenate

The expanding path doubles the map level by level; the contracting path has seen the image at each
of these sizes before. The U-Net concatenates its features, the skip, with the upsampled ones along
the channels, the skip's first:

    y = [crop(skip), upsampled]

Two 3x3 convolutions then learn what to do with both. The sizes seldom agree. Where the convolutions
had no padding ("valid"), the skip is larger by a frame: its *centre* lies on the upsampled map. And
where a level had an odd number of rows, pooling rounded up, and the upsampled map has one row more
than the skip: its last row is cut off. So along either axis, for sizes s of the skip and u of the
upsampled map:

    size = min(s, u)      the skip from (s - size) // 2 on, the upsampled map from 0 on
"""

import minseg.functional as F
from minseg import Tensor, cat
from minseg.exercises.parts import part_case
from minseg.exercises.task import Mutant, Slip, Task, Use
from minseg.models import unet


def join(upsampled: Tensor, skip: Tensor) -> Tensor:
    """The skip's centre and then the upsampled map, concatenated along the channels.

    upsampled (N, C, h, w), skip (N, D, H, W) -> y (N, D + C, min(h, H), min(w, W))
    """
    rows = min(upsampled.shape[2], skip.shape[2])
    cols = min(upsampled.shape[3], skip.shape[3])
    top, left = (skip.shape[2] - rows) // 2, (skip.shape[3] - cols) // 2
    centre = skip[:, :, top : top + rows, left : left + cols]
    return cat([centre, upsampled[:, :, :rows, :cols]], dim=1)


def right(upsampled, skip):
    return unet.join(upsampled, skip)


def split(upsampled, skip):
    """The two of them, cropped."""
    y = right(upsampled, skip)
    return y[:, : skip.shape[1]], y[:, skip.shape[1] :]


def skip_from(start):
    """start(rows too many) -> the first row of the skip."""

    def answer(upsampled, skip):
        _, above = split(upsampled, skip)
        places = []
        for axis in (2, 3):
            size = above.shape[axis]
            first = start(skip.shape[axis] - size)
            places.append(slice(first, first + size))
        return cat([skip[:, :, places[0], places[1]], above], dim=1)

    return answer


def resized_skip(upsampled, skip):
    _, above = split(upsampled, skip)
    size = above.shape[2:]
    return cat([F.interpolate(skip, size=size, mode="bilinear"), above], dim=1)


def resized_upsampled(upsampled, skip):
    size = skip.shape[2:]
    return cat([skip, F.interpolate(upsampled, size=size, mode="bilinear")], dim=1)


def padded_upsampled(upsampled, skip):
    down, across = (s - u for s, u in zip(skip.shape[2:], upsampled.shape[2:], strict=True))
    around = (across // 2, across - across // 2, down // 2, down - down // 2)
    return cat([skip, F.pad(upsampled, around)], dim=1)


def in_network(join, upsampled, skip):
    return join(upsampled, skip)


def case(name, upsampled, skip):
    return part_case(name, right, {"upsampled": upsampled, "skip": skip})


TASK = Task(
    on_tape=True,
    outputs=("y", "grad_upsampled", "grad_skip"),
    reference=right,
    use=Use("minseg.models.unet", "join", in_network, lesson="14"),
    terms=10,
    cases=(
        case("the same size", (1, 1, 2, 3), (1, 1, 2, 3)),
        case("a frame of one pixel", (1, 1, 2, 1), (1, 1, 4, 3)),
        case("two images, 2 channels and 1", (2, 2, 2, 2), (2, 1, 6, 4)),
        case("frames of 3 rows and 1 column", (1, 1, 2, 3), (1, 2, 5, 4)),
        case("the upsampled map has one row more", (1, 2, 4, 2), (1, 2, 3, 2)),
        case("one column more, but fewer rows", (1, 2, 2, 4), (1, 1, 4, 3)),
    ),
    edge_cases=(case("one pixel", (1, 1, 2, 2), (1, 2, 1, 1)),),
    hints=(
        "The sizes first: each axis keeps the smaller of the two. Then cut both maps to that size, "
        "the skip at its centre, and join them along the channels.",
        "rows = min(upsampled.shape[2], skip.shape[2]); the skip has skip.shape[2] - rows too many,"
        " half of which go at the top: top = (skip.shape[2] - rows) // 2.",
        "cat([skip[:, :, top : top + rows, left : left + cols], upsampled[:, :, :rows, :cols]], "
        "dim=1).",
    ),
    slips=(
        Slip("crop at the corner", "The skip is cut from its upper left corner: every pixel is laid"
             " beside another place of the image. Its centre lies on the upsampled map.",
             skip_from(lambda frame: 0)),
        Slip("crop at the far corner", "The skip's last rows and columns are kept. Its centre lies "
             "on the upsampled map.", skip_from(lambda frame: frame)),
        Slip("crop rounded up", "Where an odd number of rows or columns is too many, the smaller "
             "half goes at the top or left: // rounds down.",
             skip_from(lambda frame: (frame + 1) // 2)),
        Slip("resized, not cropped", "The skip is squeezed into the smaller size: no pixel lies in "
             "its own place any more. Cut the frame off.", resized_skip),
        Slip("resized, not cropped", "The upsampled map is stretched to the skip's size. Cut the "
             "skip's frame off instead.", resized_upsampled),
        Slip("padded, not cropped", "The upsampled map gets a frame of zeros. Cut the skip's frame "
             "off instead.", padded_upsampled),
        Slip("added", "The two are added. That is the FCN; the U-Net concatenates their channels.",
             lambda upsampled, skip: sum(split(upsampled, skip))),
        Slip("wrong order", "The upsampled channels come first; the skip's should. The convolution "
             "that follows has learnt them in this order.",
             lambda upsampled, skip: cat(list(split(upsampled, skip)[::-1]), dim=1)),
        Slip("joined along the images", "They are joined along axis 0: more images, not more "
             "channels.", lambda upsampled, skip: cat(list(split(upsampled, skip)), dim=0)),
        Slip("joined along the rows", "They are joined along axis 2: one lies below the other. "
             "Channels are axis 1.", lambda upsampled, skip: cat(list(split(upsampled, skip)),
                                                                 dim=2)),
        Slip("joined along the columns", "They are joined along axis 3, side by side in the image. "
             "Channels are axis 1.", lambda upsampled, skip: cat(list(split(upsampled, skip)),
                                                                 dim=3)),
    ),
    mutants=(
        Mutant("crop at the corner", "top, left = (skip.shape[2] - rows) // 2, (skip.shape[3] - "
               "cols) // 2", "top = left = 0"),
        Mutant("crop at the far corner", "top, left = (skip.shape[2] - rows) // 2, (skip.shape[3] "
               "- cols) // 2", "top, left = skip.shape[2] - rows, skip.shape[3] - cols"),
        Mutant("crop rounded up", "(skip.shape[2] - rows) // 2, (skip.shape[3] - cols) // 2",
               "-(-(skip.shape[2] - rows) // 2), -(-(skip.shape[3] - cols) // 2)"),
        Mutant("resized, not cropped", "skip[:, :, top : top + rows, left : left + cols]",
               'F.interpolate(skip, size=(rows, cols), mode="bilinear")'),
        Mutant("resized, not cropped", "    rows = min(", "    upsampled = F.interpolate(upsampled,"
               ' size=skip.shape[2:], mode="bilinear")\n    rows = min('),
        Mutant("added", "return cat([centre, upsampled[:, :, :rows, :cols]], dim=1)",
               "return centre + upsampled[:, :, :rows, :cols]"),
        Mutant("wrong order", "[centre, upsampled[:, :, :rows, :cols]]",
               "[upsampled[:, :, :rows, :cols], centre]"),
        Mutant("joined along the images", "dim=1", "dim=0"),
        Mutant("joined along the rows", "dim=1", "dim=2"),
        Mutant("off the tape", "cat([centre,", "cat([Tensor(centre.numpy()),"),
        Mutant("values", "rows = min(upsampled.shape[2], skip.shape[2])",
               "rows = upsampled.shape[2]"),
    ),
)  # fmt: skip
