"""Images: codec, fitting, files good and bad, data sets."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from molgen.core.errors import ConfigError, DataError, UnsupportedError
from molgen.core.records import Records
from molgen.core.trunk import Streams, TrunkSpec
from molgen.modalities.image import ImageModality
from molgen.modalities.image.formats import FORMATS, parse_idx, stacked
from molgen.modalities.image.plot import grid

needs_mnist = pytest.mark.usefixtures("mnist")


def images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def refuse(error: DataError) -> None:
    raise error


def read(path: Path, on_error=refuse) -> Records:
    suffix = "/" if path.is_dir() else next(s for f in FORMATS for s in f.suffixes if path.name.endswith(s))
    return next(f.read for f in FORMATS if suffix in f.suffixes)(path, on_error)


def write(path: Path, suffix: str, records) -> None:
    next(f.write for f in FORMATS if suffix in f.suffixes)(path, records)


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def save_folder(folder: Path, **files: np.ndarray) -> Path:
    for name, pixels in files.items():
        path = folder / (name.replace("__", "/") + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)
    return folder


# ---------------------------------------------------------------- codec


@pytest.mark.parametrize("shape", [(16, 16, 1), (5, 7, 3)])
def test_pixels_round_trip_exactly_for_every_level(shape) -> None:
    modality = ImageModality(shape)
    records = list(images(3, *shape))
    records.append(np.resize(np.arange(256, dtype=np.uint8), shape))
    batch = modality.encode_all(records, "pixels")
    assert batch.values["image"].dtype == torch.float32 and batch.mask.all()
    assert batch.values["image"].abs().max() <= 1
    for a, b in zip(modality.decode_all(batch, "pixels"), records, strict=True):
        assert b.dtype == np.uint8 and np.array_equal(a, b)


def test_binary_view_keeps_bits_and_is_bijective_for_binarised_data_only() -> None:
    bits = (images(20, 6, 6, 1) > 127).astype(np.uint8) * np.uint8(255)
    modality = ImageModality((6, 6, 1)).fit_to(list(bits))
    assert modality.view("binary").bijective and modality.view().name == "binary"
    batch = modality.encode_all(list(bits), "binary")
    assert batch.values["image"].shape == (20, 6, 6) and set(batch.values["image"].unique().tolist()) == {
        0,
        1,
    }
    assert np.array_equal(stacked(modality.decode_all(batch, "binary")), bits)
    grey = ImageModality((6, 6, 1)).fit_to(list(images(20, 6, 6, 1)))
    assert not grey.view("binary").bijective and grey.view().name == "pixels"
    assert "binary" not in ImageModality((6, 6, 3)).views


def test_decoding_is_total() -> None:
    wild = np.array([-9.0, np.nan, np.inf, 0.1], np.float32).reshape(2, 2, 1)
    decoded = ImageModality((2, 2, 1)).decode({"image": wild}, "pixels")
    assert decoded.dtype == np.uint8 and decoded.ravel().tolist() == [0, 0, 255, 140]


def test_fitting_takes_shape_scale_and_labels() -> None:
    pixels = images(50, 9, 4, 3)
    labels = {"class": np.array([0, 3] * 25), "score": np.linspace(0, 1.5, 50)}
    modality = ImageModality().fit_to(Records(list(pixels), labels))
    real = pixels / 127.5 - 1
    assert modality.shape == (9, 4, 3) and modality.extent == (9, 4)
    assert modality.mean == pytest.approx(real.mean(), abs=1e-4)
    assert modality.sd == pytest.approx(real.std(), abs=1e-4)
    assert {k: c.width for k, c in modality.conditions.items()} == {"class": 5}
    again = ImageModality(**json.loads(json.dumps(modality.config())))
    assert again.config() == modality.config()


def test_sizes_are_the_grid() -> None:
    modality = ImageModality((3, 5, 1))
    assert modality.draw_sizes(0, range(4)) == [15] * 4
    assert modality.log_size(15) == 0.0 and modality.log_size(14) == -np.inf
    assert modality.make_mask([15, 15]).shape == (2, 3, 5)
    with pytest.raises(ConfigError, match="length"):
        modality.draw_sizes(0, [0], length=7)


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (16, 20, 3)])
def test_trunk_takes_the_grid(shape) -> None:
    modality = ImageModality(shape)
    trunk = modality.trunk(TrunkSpec(site=shape[2], context=4), width=8)
    out = trunk(Streams(torch.randn(2, *shape)), modality.make_mask([1, 1]), torch.randn(2, 4))
    assert out.site is not None and out.site.shape == (2, *shape[:2], trunk.width)
    with pytest.raises(ConfigError, match="unet"):
        modality.trunk(TrunkSpec(site=1), "unett")


def test_bad_records_are_named() -> None:
    modality = ImageModality((4, 4, 1))
    good = images(1, 4, 4, 1)[0]
    for bad, text in [
        (images(1, 5, 4, 1)[0], "record 2: image of size 5 x 4 x 1, expected 4 x 4 x 1; "),
        (good.astype(np.float32), "record 2: image of dtype float32, expected uint8"),
        (np.zeros((4, 4, 1, 1), np.uint8), "record 2: image of shape"),
        ("cat.png", "record 2: image of dtype"),
    ]:
        with pytest.raises(DataError, match=text):
            modality.encode_all([good, bad], "pixels")
        with pytest.raises(DataError, match=text):
            modality.fit_to([good, bad])
        assert modality.is_valid(good) and not modality.is_valid(bad)
    with pytest.raises(DataError, match="no images"):
        modality.fit_to([])
    with pytest.raises(ConfigError, match="shape"):
        ImageModality((0, 3, 1))
    with pytest.raises(UnsupportedError, match="digit"):
        modality.measure(good, "digit")


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 5, 3)])
@pytest.mark.parametrize(("name", "suffix"), [("out.npz", ".npz"), ("out", "/")])
def test_written_files_read_back(tmp_path: Path, shape, name, suffix) -> None:
    pixels = images(12, *shape)
    write(tmp_path / name, suffix, list(pixels))
    records = read(tmp_path / name)
    assert np.array_equal(stacked(records), pixels) and not records.labels


def test_grid_is_a_picture_of_all_records(tmp_path: Path) -> None:
    write(tmp_path / "out.png", ".png", list(images(150, 4, 4, 1)))
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "L" and min(image.size) >= 13 * 5 - 1
    canvas = grid(list(images(3, 4, 4, 3)), columns=2)
    assert canvas.shape == (9, 9, 3) and np.array_equal(canvas[5:, :4], images(3, 4, 4, 3)[2])


def test_two_channels_have_no_png(tmp_path: Path) -> None:
    for name, suffix in [("out.png", ".png"), ("out", "/")]:
        with pytest.raises(DataError, match="2 channels"):
            write(tmp_path / name, suffix, list(images(3, 4, 4, 2)))
        assert not list(tmp_path.iterdir())


def test_npy_and_arrays_without_channels(tmp_path: Path) -> None:
    pixels = images(3, 4, 5)
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array([2, 0, 1]))
    assert stacked(read(tmp_path / "a.npy")).shape == (3, 4, 5, 1)
    assert read(tmp_path / "a.npz").labels["class"].tolist() == [2, 0, 1]


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_with_its_labels(tmp_path: Path, end: str) -> None:
    pixels, labels = images(3, 4, 5), np.array([7, 1, 2], np.uint8)
    pack = gzip.compress if end else bytes
    path = tmp_path / f"train-images-idx3-ubyte{end}"
    path.write_bytes(pack(idx(pixels)))
    assert not read(path).labels
    (tmp_path / f"train-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    records = read(path)
    assert np.array_equal(stacked(records)[..., 0], pixels) and records.labels["class"].tolist() == [7, 1, 2]


def test_folder_with_class_subfolders(tmp_path: Path) -> None:
    a = images(4, 6, 6, 3)
    save_folder(tmp_path, dog__1=a[0], cat__2=a[1], cat__1=a[2], dog__2=a[3])
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / "cat" / ".hidden.png").write_text("not an image")
    records = read(tmp_path)
    assert records.labels["class"].tolist() == [0, 0, 1, 1]
    assert np.array_equal(stacked(records), a[[2, 1, 0, 3]])


def test_jpeg_and_palette_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "a.JPG")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).convert("1").save(tmp_path / "b.png")
    values = stacked(read(tmp_path))
    assert (
        values.shape == (2, 8, 8, 1) and values[1].min() == 255 and abs(values[0].astype(int) - 200).max() < 3
    )


def test_bad_files_of_a_folder_are_counted_and_skipped(tmp_path: Path) -> None:
    a = images(4, 6, 6, 1)
    save_folder(tmp_path, a=images(1, 7, 6, 1)[0], b=a[0], c=images(1, 6, 6, 3)[0], d=a[1], e=a[2])
    (tmp_path / "f.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    (tmp_path / "g.png").touch()
    Image.fromarray(images(1, 6, 6, 4)[0]).save(tmp_path / "h.png")
    errors: list[DataError] = []
    records = read(tmp_path, errors.append)
    assert np.array_equal(stacked(records), a[:3])
    texts = {error.record: str(error) for error in errors}
    assert set(texts) == {"a.png", "c.png", "f.png", "g.png", "h.png"}
    assert "size 7 x 6 x 1, expected 6 x 6 x 1" in texts["a.png"] and "empty" in texts["g.png"]
    assert "RGBA" in texts["h.png"] and all("\n" not in text for text in texts.values())
    with pytest.raises(DataError):
        read(tmp_path)


def test_a_folder_of_bad_files_only_gives_no_records(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nonsense")
    assert len(read(tmp_path, lambda error: None)) == 0
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="no .png"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.full((3, 4, 4, 1), np.nan), "record 1: pixels that are NaN"),
        (np.zeros((3, 4, 4, 1)), "dtype float64, expected uint8"),
        (np.zeros((16,), np.uint8), r"shape \(16,\), expected"),
        (np.zeros((0, 4, 4, 1), np.uint8), "empty"),
        (np.zeros((3, 0, 4, 1), np.uint8), "shape"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, array, text) -> None:
    np.savez(tmp_path / "a.npz", images=array)
    np.save(tmp_path / "a.npy", array)
    for name in ("a.npz", "a.npy"):
        with pytest.raises(DataError, match=text) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    pixels = images(5, 6, 6, 1)
    np.savez(tmp_path / "other.npz", pictures=pixels)
    np.savez(tmp_path / "labels.npz", images=pixels, labels=np.zeros(4, int))
    np.savez(tmp_path / "good.npz", images=pixels)
    np.save(tmp_path / "good.npy", pixels)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:200])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:200])
    (tmp_path / "short.idx").write_bytes(idx(pixels)[:-3])
    (tmp_path / "magic.idx").write_bytes(b"PNG" + idx(pixels))
    (tmp_path / "cut.idx.gz").write_bytes(gzip.compress(idx(pixels))[:-20])
    (tmp_path / "empty.npz").touch()
    (tmp_path / "empty.npy").touch()
    wanted = {
        "other.npz": "pictures, expected one named 'images'",
        "labels.npz": "labels of shape",
        "cut.npz": "damaged",
        "cut.npy": "not a readable .npy",
        "short.idx": "expected 180",
        "magic.idx": "magic number",
        "cut.idx.gz": "breaks off",
        "empty.npz": "empty",
        "empty.npy": "empty",
        "absent.npz": "no such file",
    }
    for name, text in wanted.items():
        with pytest.raises(DataError, match=text) as caught:
            read(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_hostile_idx_header_allocates_nothing() -> None:
    with pytest.raises(DataError, match="expected"):
        parse_idx(bytes([0, 0, 8, 4]) + b"\xff" * 16, "bomb.idx")


# ---------------------------------------------------------------- data sets


def test_embedded_digits_split_without_overlap() -> None:
    source = ImageModality().datasets["digits"]
    parts = [source.load(split) for split in source.splits]
    assert [len(p) for p in parts] == [1439, 179, 179] and sum(map(len, parts)) == source.records
    assert stacked(parts[0]).max() == 255 and parts[0].items[0].shape == (8, 8, 1)
    assert all(set(p.labels["digit"].tolist()) == set(range(10)) for p in parts)
    with pytest.raises(ConfigError, match="valid"):
        source.load("validation")


@needs_mnist
def test_mnist_reads_and_has_the_default_scale() -> None:
    modality = ImageModality()
    parts = {split: modality.datasets["mnist"].load(split) for split in ("train", "valid", "test")}
    assert [len(p) for p in parts.values()] == [55_000, 5_000, 10_000]
    learned = modality.fit_to(parts["train"]).config()
    shares = learned.pop("shares")  # of grey levels, which no default knows
    assert len(shares) == 256 and sum(shares) == pytest.approx(1, abs=1e-3)
    assert {**learned, "shares": None} == modality.config()
    assert parts["test"].labels["digit"][:5].tolist() == [7, 2, 1, 0, 4]
