"""Files of weights: those that are right, and those that were made to do harm."""

import builtins
import collections
import io
import os
import pickle
import struct
import zipfile
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import save_file

from minseg.hub import adapt, load_weights, safe_pickle
from minseg.hub.weights import LEGACY_MAGIC
from minseg.models import build


class Torch:
    """Stands for one of PyTorch's names in a pickle: it is written as a GLOBAL of that name."""

    def __init__(self, name):
        self.name = name


class Pickler(pickle._Pickler):
    """Writes what torch.save writes, without torch."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_name(self, value):
        module, _, name = value.name.rpartition(".")
        self.write(b"c" + f"{module}\n{name}\n".encode())

    def save_call(self, value):
        self.save(Torch(value.name))
        self.save(value.arguments)
        self.write(b"R")

    def save_storage(self, value):
        self.save(tuple(value))
        self.write(b"Q")

    dispatch[Torch] = save_name


class Call:
    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments


class PersistentId(tuple):
    pass


Pickler.dispatch[Call] = Pickler.save_call
Pickler.dispatch[PersistentId] = Pickler.save_storage


def pickled(tree):
    file = io.BytesIO()
    Pickler(file, 2).dump(tree)
    return file.getvalue()


def storage(key="0", length=6, kind="torch.FloatStorage"):
    return PersistentId(("storage", Torch(kind), key, "cpu", length))


def tensor(offset=0, shape=(2, 3), stride=(3, 1), **which):
    return Call(
        "torch._utils._rebuild_tensor_v2", storage(**which), offset, shape, stride, False, {}
    )


def zipped(data_pkl, records, compression=zipfile.ZIP_STORED, byteorder="little"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in records.items():
            archive.writestr(f"archive/data/{key}", data)
    return file.getvalue()


SIX = np.arange(6, dtype=np.float32)
GOOD = zipped(pickled({"w": tensor()}), {"0": SIX.tobytes()})


def read(tmp_path, content, name="weights.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return load_weights(path)


# -- files that are right --------------------------------------------------------------------------
def test_a_zip_of_tensors(tmp_path):
    tree = {
        "whole": tensor(),
        "transposed": tensor(shape=(3, 2), stride=(1, 3)),
        "part": tensor(offset=4, shape=(2,), stride=(1,)),
        "single": tensor(offset=5, shape=(), stride=()),
        "none": tensor(shape=(0, 3), stride=(3, 1)),
        "count": tensor(shape=(1,), stride=(1,), key="7", length=1, kind="torch.LongStorage"),
    }
    records = {"0": SIX.tobytes(), "7": np.array([2**40]).tobytes()}
    arrays = read(tmp_path, zipped(pickled(tree), records))
    expected = {
        "whole": SIX.reshape(2, 3),
        "transposed": SIX.reshape(2, 3).T,
        "part": SIX[4:],
        "single": SIX[5],
        "none": np.zeros((0, 3), np.float32),
        "count": np.array([2**40]),
    }
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].shape == array.shape
        assert arrays[name].dtype == array.dtype


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_python_values_of_every_protocol(protocol):
    tree = {
        "a": [1, 2.5, (True, None), (1,), (1, 2, 3), "é"],
        "b": collections.OrderedDict(x=(1, 2, 3, 4)),
        3: -(2**40),
    }
    assert safe_pickle.load(io.BytesIO(pickle.dumps(tree, protocol)), {}) == tree


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_the_state_dict_may_lie_one_level_deeper(tmp_path, key):
    content = zipped(pickled({"epoch": 3, key: {"w": tensor()}}), {"0": SIX.tobytes()})
    assert list(read(tmp_path, content)) == ["w"]


def legacy(tree, keys, data, little=True):
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    return b"".join(pickled(part) for part in (LEGACY_MAGIC, 1001, system, tree, keys)) + data


def test_the_format_before_zip(tmp_path):
    old = PersistentId((*storage(), None))
    tree = {"w": Call("torch._utils._rebuild_tensor", old, 0, (2, 3), (3, 1))}
    content = legacy(tree, ["0"], struct.pack("<q", 6) + SIX.tobytes())
    np.testing.assert_array_equal(read(tmp_path, content)["w"], SIX.reshape(2, 3))
    with pytest.raises(ValueError, match=r"weights.pth: truncated or broken: storage 0"):
        read(tmp_path, content[:-1])
    with pytest.raises(ValueError, match=r"weights.pth: its numbers are not little-endian"):
        read(tmp_path, legacy(tree, ["0"], struct.pack(">q", 6) + SIX.byteswap().tobytes(), False))


def test_16_bit_floats_become_float32(tmp_path):
    half = np.array([1.5, -0.1], np.float16)
    brain = np.array([0x3FC0, 0xC2F7], np.uint16)  # 1.5 and -123.5
    tree = {
        "half": tensor(shape=(2,), stride=(1,), length=2, kind="torch.HalfStorage"),
        "brain": tensor(shape=(2,), stride=(1,), key="1", length=2, kind="torch.BFloat16Storage"),
    }
    with pytest.warns(UserWarning, match="2 arrays of 16-bit floats became float32"):
        arrays = read(tmp_path, zipped(pickled(tree), {"0": half.tobytes(), "1": brain.tobytes()}))
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(arrays["half"], half.astype(np.float32))
    np.testing.assert_array_equal(arrays["brain"], [1.5, -123.5])


def test_tensors_of_16_bits_share_memory_still(tmp_path):
    kind = {"length": 1000, "kind": "torch.HalfStorage"}
    tree = {f"w{i}": tensor(shape=(1000,), stride=(1,), **kind) for i in range(50)}
    with pytest.warns(UserWarning, match="1 arrays of 16-bit"):
        arrays = read(tmp_path, zipped(pickled(tree), {"0": bytes(2000)}))
    first = arrays["w0"]
    assert all(np.shares_memory(first, array) for array in arrays.values())
    assert (len(arrays), first.dtype, first.flags.writeable) == (50, np.float32, False)


def test_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    arrays = {"a.weight": SIX.reshape(2, 3), "count": np.array(7), "empty": np.zeros((0, 2))}
    save_file(arrays, path)
    for name, array in load_weights(str(path)).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    content = struct.pack("<Q", len(header)) + header + b"\xc0\x3f\xf7\xc2"
    with pytest.warns(UserWarning, match="1 arrays of 16-bit"):
        assert read(tmp_path, content, "b.safetensors")["x"].tolist() == [1.5, -123.5]
    with pytest.raises(ValueError, match=r"b.safetensors: broken, or not a safetensors file"):
        read(tmp_path, content[:-1], "b.safetensors")


# -- files that do harm ----------------------------------------------------------------------------
class Evil:
    """Pickled, it asks for a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


HARM = {
    "system": (Evil(os.system, "touch HARM"), f"{os.system.__module__}.system"),
    "eval": (Evil(builtins.eval, "open('HARM', 'w')"), "eval"),
    "nested": ({"w": [{"x": (Evil(exec, "open('HARM', 'w')"),)}]}, "exec"),
    "attribute": (Evil(getattr, "x", "upper"), "getattr"),
    "hidden": (Evil(collections.OrderedDict, [("w", Evil(os.remove, "HARM"))]), "remove"),
}


@pytest.mark.parametrize("in_zip", [True, False])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", HARM)
def test_a_pickle_that_asks_for_code_is_refused_by_name(
    tmp_path, monkeypatch, kind, protocol, in_zip
):
    monkeypatch.chdir(tmp_path)
    tree, name = HARM[kind]
    content = pickle.dumps(tree, protocol)
    message = (
        rf"weights.pth: refused: its pickle (asks for .*{name}|uses \w+, which tensors do not)"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path, zipped(content, {}) if in_zip else content)
    assert not (tmp_path / "HARM").exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02ios\nsystem\n.", "uses INST"),  # a call without GLOBAL
        (b"\x80\x02\x82\x01.", "uses EXT1"),  # a name by number
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "a broken pickle"),  # a call of no function
        (b"\x80\x02]}b.", "a broken pickle"),  # attributes of a list
        (b"\x80\x02}(((ttK\x01u.", "a dict's key is a tuple"),
        (b"\x80\x02\x8c\x01a\x94h\x05.", "a broken pickle"),  # what was not kept
        (b"\x80\x02R.", "a broken pickle"),
        (b"\x80\x02t.", "a broken pickle"),
        (b"\x80\x02.", "a broken pickle"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "expected 2147483647 bytes"),
        (b"", "pickle exhausted before seeing STOP"),
        (b"\xff\xd8\xff\xe0", "unknown"),
    ],
)
def test_broken_programs(program, message):
    with pytest.raises(ValueError, match=message):
        safe_pickle.load(io.BytesIO(program), {})


def test_a_list_in_the_memo_cannot_be_multiplied():
    """Two dicts of one list of pairs: the second is empty, so a file of n bytes stays O(n)."""
    pair = b"]X\x01\x00\x00\x00aaK\x07a"
    call = b"ccollections\nOrderedDict\n"
    program = b"\x80\x02]" + call + b"]q\x01" + pair + b"a\x85Ra" + call + b"h\x01\x85Ra."
    assert safe_pickle.load(io.BytesIO(program), {}) == [{"a": 7}, {}]


@pytest.mark.parametrize(
    ("tree", "records", "message"),
    [
        ({"w": tensor(shape=(3, 3))}, {"0": SIX.tobytes()}, r"shape \(3, 3\) does not fit"),
        ({"w": tensor(shape=(2**40,), stride=(0,))}, {"0": SIX.tobytes()}, "does not fit its stor"),
        ({"w": tensor(offset=1)}, {"0": SIX.tobytes()}, "does not fit"),
        ({"w": tensor(offset=-1)}, {"0": SIX.tobytes()}, "a broken pickle"),
        ({"w": tensor(stride=(-3, 1))}, {"0": SIX.tobytes()}, "a broken pickle"),
        ({"w": tensor(shape=(2.0, 3))}, {"0": SIX.tobytes()}, "a broken pickle"),
        ({"w": tensor(length=2**60)}, {"0": SIX.tobytes()}, "storage 0 has 24 bytes"),
        ({"w": tensor(kind="torch.DoubleStorage")}, {"0": SIX.tobytes()}, "storage 0 has 24 bytes"),
        ({"w": tensor()}, {}, "truncated: storage 0 is missing"),
        ({"w": tensor(), "v": tensor(length=7)}, {"0": SIX.tobytes()}, "described twice"),
        ({"w": 1}, {}, "holds no state_dict .*, but a dict of w"),
        ({}, {}, "holds no state_dict"),
        ([tensor()], {"0": SIX.tobytes()}, "holds no state_dict .* but a list"),
    ],
)
def test_tensors_that_are_not_there(tmp_path, tree, records, message):
    with pytest.raises(ValueError, match=f"weights.pth: .*{message}"):
        read(tmp_path, zipped(pickled(tree), records))


@pytest.mark.parametrize(
    "reference",
    [
        ("module", *storage()[1:]),
        ("storage", "torch.FloatStorage", *storage()[2:]),
        (*storage()[:2], 0, *storage()[3:]),
        (*storage()[:4], 6.0),
        (*storage()[:4], -1),
        (*storage(), ("1", 0, 6)),  # a part of another storage
    ],
)
def test_storages_that_are_not_described_by_type_key_and_length(tmp_path, reference):
    stored = Call("torch._utils._rebuild_tensor", PersistentId(reference), 0, (2, 3), (3, 1))
    with pytest.raises(ValueError, match=r"weights\.pth: a broken pickle: a storage is not descri"):
        read(tmp_path, zipped(pickled({"w": stored}), {"0": SIX.tobytes()}))


def test_archives_that_are_not_torch_s(tmp_path):
    tree = pickled({"w": tensor()})
    with pytest.raises(ValueError, match="compressed or encrypted"):
        read(tmp_path, zipped(tree, {"0": bytes(10**6)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="its numbers are not little-endian"):
        read(tmp_path, zipped(tree, {"0": SIX.byteswap().tobytes()}, byteorder="big"))
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(ValueError, match=r"it has no data\.pkl"):
        read(tmp_path, other.getvalue())


@pytest.mark.parametrize("length", [*range(0, len(GOOD), 41), len(GOOD) - 1])
def test_a_truncated_file_is_named(tmp_path, length):
    with pytest.raises(ValueError, match=r"weights\.pth: \w+"):
        read(tmp_path, GOOD[:length])


def test_any_single_wrong_byte_gives_the_weights_or_an_error(tmp_path):
    """Never a crash, never another kind of error; a checksum guards the numbers."""
    messages, numbers = [], set()
    for place in range(len(GOOD)):
        broken = bytearray(GOOD)
        broken[place] ^= 0x15
        try:
            arrays = read(tmp_path, bytes(broken))
        except ValueError as error:
            messages.append(str(error))
        else:
            numbers.update(*(array.ravel().tolist() for array in arrays.values()))
    assert numbers == set(SIX.tolist())
    assert all("weights.pth" in message for message in messages)
    assert len(messages) > len(GOOD) // 4


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such file"):
        load_weights(tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"weights\.npz: weights are read from \.safetensors"):
        load_weights(tmp_path / "weights.npz")


# -- names -----------------------------------------------------------------------------------------
def test_names_of_another_u_net():
    network = build("unet", num_classes=2, width=1, norm="batch")
    blocks = ["inc.double_conv"]
    blocks += [f"down{i}.maxpool_conv.1.double_conv" for i in (1, 2, 3, 4)]
    ups = [f"up{i}.up" for i in (1, 2, 3, 4)]
    blocks_up = [f"up{i}.conv.double_conv" for i in (1, 2, 3, 4)]
    bn = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    parts = ["0.weight", *(f"1.{p}" for p in bn), "3.weight", *(f"4.{p}" for p in bn)]
    names = [f"{block}.{part}" for block in blocks for part in parts]
    names += [f"{up}.{part}" for up in ups for part in ("weight", "bias")]
    names += [f"{block}.{part}" for block in blocks_up for part in parts]
    names += ["outc.conv.weight", "outc.conv.bias"]
    assert list(adapt("unet", dict.fromkeys(names))) == list(network.state_dict())


def test_names_that_stay_and_names_that_are_unknown():
    assert adapt("fcn8s", {"module.fc6.weight": 1, "module.fc6.bias": 2}) == {
        "fc6.weight": 1,
        "fc6.bias": 2,
    }
    with pytest.raises(ValueError, match="no names are known for 'segnet'"):
        adapt("segnet", {})
    with pytest.raises(ValueError, match=r"'encoder\.weight' is no name of the unet"):
        adapt("unet", {"encoder.weight": 1})
