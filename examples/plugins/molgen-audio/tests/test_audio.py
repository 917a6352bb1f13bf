"""Sounds come back from their frames, notes have the pitch they were made with, WAV files are read."""

from pathlib import Path

import numpy as np
import pytest
from molgen_audio import Audio, sound
from scipy.io import wavfile

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.io.formats import read, write
from molgen.testing import Check, modality_checks


@pytest.mark.parametrize("check", modality_checks(Audio(), families=["diffusion", "vae"]), ids=str)
def test_conformance(check: Check) -> None:
    check()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize(("frames", "size"), [(1, 2), (1, 16), (2, 16), (9, 64)])
def test_the_transform_is_orthogonal(frames: int, size: int) -> None:
    x, y = noise(2, frames, size)
    assert np.allclose(sound.imdct(sound.mdct(x)), x, atol=1e-12)
    assert np.sum(sound.mdct(x) * sound.mdct(y)) == pytest.approx(np.sum(x * y))


def test_inner_frames_are_those_of_the_formula() -> None:
    m, k, x = 8, 2, noise(5, 8)
    n = np.arange(-m // 2, 3 * m // 2)
    window = np.sin(np.pi / (2 * m) * (n + (m + 1) / 2))
    basis = np.cos(np.pi / m * (n[:, None] + 0.5) * (np.arange(m) + 0.5))
    expected = np.sqrt(2 / m) * (window * x.ravel()[n + k * m]) @ basis
    assert np.allclose(sound.mdct(x)[k], expected)


def test_sounds_come_back() -> None:
    records = Audio().datasets["plucks"].load("test")
    audio = Audio().fit_to(records)
    for record in records[:20]:
        assert np.abs(audio.decode(audio.encode(record, "fields"), "fields") - record).max() < 1e-5


def test_each_frequency_is_in_units_of_its_spread() -> None:
    records = Audio().datasets["tones"].load("train")
    audio = Audio().fit_to(records)
    frames = np.concatenate([audio.encode(record, "fields")["frames"] for record in records])
    spread, spectrum = np.sqrt((frames**2).mean(0)), np.array(audio.spectrum)
    heard = spectrum > 1.01e-3 * spectrum.max()
    assert np.allclose(spread[heard], 1, atol=1e-3)
    assert (spread[~heard] < 1.01).all()


@pytest.mark.parametrize("name", ["tones", "plucks"])
def test_a_note_has_the_pitch_that_it_was_made_with(name: str) -> None:
    audio = Audio()
    records = audio.datasets[name].load("test")
    found = [audio.measure(record, "pitch") for record in records]
    assert np.mean(np.array(found) == records.labels["pitch"]) > 0.99


def test_pitch_is_exact_on_sines() -> None:
    t = np.arange(1600) / 8000
    for semitone in (0.0, 3.3, 7.0, 11.2):
        wave = np.sin(2 * np.pi * 110 * 2 ** (semitone / 12) * t)
        note, height = sound.pitch(wave, 8000)
        assert note == pytest.approx(semitone, abs=0.05)
        assert height > 0.95
    assert sound.pitch(noise(1600), 8000)[1] < 0.5
    assert sound.pitch(np.zeros(1600), 8000)[1] == 0


def test_scores_of_strings_of_quiet_ones_and_of_noise() -> None:
    strings = sound.plucks(2000, 256, count=240)
    scores = Audio().evaluate(strings, "plucks")
    assert scores["valid"] == 1
    assert min(scores["pitch"], scores["tuned"], scores["data/pitch"]) > 0.95
    assert scores["spectrum"] < 1 > scores["floor/spectrum"]
    quiet = Audio().evaluate([0.1 * x for x in strings], "plucks")
    assert quiet["spectrum"] == pytest.approx(20, abs=1)
    assert Audio().evaluate(list(noise(40, 256)))["tuned"] < 0.8
    half = Records([strings[0], np.zeros(0, np.float32)], {"pitch": np.array([0, 1])})
    assert Audio().evaluate(half)["pitch"] == 0.5


def test_wav_files_of_any_kind_are_read(tmp_path: Path) -> None:
    t = np.arange(4000) / 4000
    wave = 0.5 * np.sin(2 * np.pi * 110 * t)
    kinds = {"f": wave.astype(np.float32), "i": (wave * 32767).astype(np.int16)}
    kinds["u"] = np.rint(wave * 127 + 128).astype(np.uint8)
    kinds["two"] = np.stack([2 * wave, 0 * wave], 1).astype(np.float32)
    for name, data in kinds.items():
        wavfile.write(tmp_path / f"{name}.wav", 4000, data)
        (record,) = read(Audio(), tmp_path / f"{name}.wav")
        assert record.dtype == np.float32
        assert len(record) == 2000  # of half the rate
        assert np.abs(record - wave[::2])[50:-50].max() < 0.02
    assert len(read(Audio(), tmp_path)) == 4
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing of use")
    with pytest.raises(DataError, match=r"bad\.wav.*no WAV file"):
        read(Audio(), tmp_path)


def test_what_is_written_comes_back_to_the_bit(tmp_path: Path) -> None:
    some = list(sound.tones(2000, 256, count=11))
    write(Audio(), tmp_path / "out", some)
    assert all(np.array_equal(a, b) for a, b in zip(some, read(Audio(), tmp_path / "out"), strict=True))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="even frame"):
        Audio(frame=5)
    with pytest.raises(DataError, match="30 samples, expected finite ones, a multiple of 16"):
        Audio().encode(np.zeros(30, np.float32), "fields")
