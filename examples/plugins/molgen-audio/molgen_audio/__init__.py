"""Audio: a kind of data for molgen, one frame of a lapped transform a site."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from molgen.core.batch import Sample
from molgen.core.errors import ConfigError, DataError, UnsupportedError
from molgen.core.fields import Continuous, Field
from molgen.core.modality import Format, Modality
from molgen.core.records import Records
from molgen.io.data import DataSource, embedded
from molgen_audio import sound, wav


@final
class Audio(Modality):
    """Short sounds in one channel: float32 arrays `(n,)`, n a multiple of `frame`, about -1 to 1.

    Frames are of the modified discrete cosine transform, which is orthogonal, so that noise in them is
    noise in the sound, and nothing is lost.

    Arguments:
        rate: samples a second; files of another rate are resampled.
        frame: samples of a frame, an even number, and frequencies in it.
        spectrum: spread of each frequency in the data, which is divided by it; `(frame,)`.
        learned: as for `Modality`.

    Example:
        >>> audio, wave = Audio(frame=4), np.sin(np.arange(12)).astype(np.float32)
        >>> frames = audio.encode(wave, "fields")["frames"]
        >>> frames.shape, bool(np.abs(audio.decode({"frames": frames}, "fields") - wave).max() < 1e-6)
        ((3, 4), True)
    """

    name = "audio"

    def __init__(
        self, rate: int = 2000, frame: int = 16, spectrum: Sequence[float] = (), **learned: Any
    ) -> None:
        super().__init__(**learned)
        if frame < 2 or frame % 2 or rate < 1 or len(spectrum) not in (0, frame):
            raise ConfigError(
                f"frame={frame}, rate={rate}, spectrum of {len(spectrum)}: expected an even frame, a rate of "
                "at least 1, and a number for each frequency of a frame"
            )
        self.rate, self.frame, self.spectrum = rate, frame, list(spectrum)

    @property
    def fields(self) -> Mapping[str, Field]:
        return {"frames": Continuous(self.frame, **self.learned("frames"))}

    def learn(self, records: Sequence[Any]) -> dict[str, Any]:
        plain = self.replace(spectrum=())
        frames = [plain.encode(record, "fields")["frames"] for record in records]
        spread = np.sqrt((np.concatenate(frames) ** 2).mean(0)) if frames else np.ones(self.frame)
        # What hardly sounds in the data must not become as loud as the rest.
        floor = 1e-3 * spread.max() or 1.0
        return {"spectrum": [float(f"{value:.6g}") for value in np.maximum(spread, floor)]}

    def encode(self, record: Any, view: str) -> Sample:
        if not isinstance(record, np.ndarray) or record.ndim != 1 or record.dtype.kind != "f":
            raise DataError(f"a {type(record).__name__}, expected an array (n,) of floats", fix="remove it")
        if not record.size or record.size % self.frame or not np.isfinite(record).all():
            raise DataError(
                f"{record.size} samples, expected finite ones, a multiple of {self.frame}",
                fix="fill it up with zeros",
            )
        frames = sound.mdct(record.reshape(-1, self.frame).astype(np.float64))
        return {"frames": (frames / (self.spectrum or 1.0)).astype(np.float32)}

    def decode(self, sample: Sample, view: str) -> np.ndarray:
        frames = sample["frames"].astype(np.float64) * (self.spectrum or 1.0)
        return sound.imdct(frames).ravel().astype(np.float32)

    @property
    def formats(self) -> Sequence[Format]:
        return [Format(("/",), self._read, self._write), Format((".wav",), self._read)]

    def _read(self, path: Path, on_error: Any) -> Records:
        return wav.read(path, self.rate, self.frame, on_error)

    def _write(self, path: Path, records: Sequence[Any]) -> None:
        wav.write(path, self.rate, records)

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        return {
            name: embedded(name, partial(make, self.rate, 16 * self.frame), 2400, "made by formula")
            for name, make in {"tones": sound.tones, "plucks": sound.plucks}.items()
        }

    def measure(self, record: Any, name: str) -> float:
        if name != "pitch":
            raise UnsupportedError(f"audio records carry no {name!r}; they have a pitch")
        return float(np.rint(sound.pitch(record, self.rate)[0]))

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        """Generic scores, and `clarity`, `tuned`, `pitch` and `spectrum`, where there is what they need.

        Mean height of the autocorrelation's peak; share of sounds within 25 cents of a note; share with the
        pitch of their label; with a reference the root mean square distance of average spectra in decibels.
        """
        scores = super().evaluate(records, reference, **options)
        scores |= self._tuning(records, "")
        if reference is not None:
            if isinstance(reference, str):
                test, train = (self.datasets[reference].load(part) for part in ("test", "train"))
            else:
                test, train = reference[::2], reference[1::2]
            scores |= self._tuning(test, "data/")
            levels = [self._decibels(some) for some in (records, train, test)]
            for key, level in zip(("spectrum", "floor/spectrum"), levels, strict=False):
                scores[key] = float(np.sqrt(((level - levels[2]) ** 2).mean()))
        return scores

    def _tuning(self, records: Sequence[Any], prefix: str) -> dict[str, float]:
        silent = (np.nan, 0.0)  # what is no sound has no pitch, and counts
        found = [sound.pitch(x, self.rate) if self.is_valid(x) else silent for x in records] or [silent]
        notes, heights = np.array(found).T
        scores = {"clarity": heights.mean(), "tuned": (np.abs(notes - np.rint(notes)) <= 0.25).mean()}
        labels = getattr(records, "labels", {}).get("pitch")
        if labels is not None:
            scores["pitch"] = (np.rint(notes) == labels).mean()
        return {prefix + key: float(value) for key, value in scores.items()}

    def _decibels(self, records: Sequence[Any]) -> np.ndarray:
        """The average spectrum; what is 60 decibels below the loudest frequency counts as that."""
        power = np.square(self.learn([record for record in records if self.is_valid(record)])["spectrum"])
        level: np.ndarray = 10 * np.log10(power)
        return level

    def plot(self, records: Sequence[Any], path: Path) -> None:
        some = list(records[:16])
        sound.spectrograms(
            {"": some[:4], " ": some[4:8], "  ": some[8:12], "   ": some[12:]}, path, self.rate
        )
