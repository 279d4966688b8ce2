"""Preparing a calibrated data set: every person is tracked once and written as one file that training reads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sega_ros.errors import DatasetError, SegaError, StorageError
from sega_ros.head.model import HeadModel
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.training.data.capture_file import SUFFIX, HeadTag, check_name, load_capture, save_capture
from sega_ros.training.data.multiview import MultiviewSource
from sega_ros.training.data.nersemble import NersembleSource
from sega_ros.training.data.track import CaptureTracker, TrackConfig, TrackReport
from sega_ros.training.data.views import Source

FORMATS: dict[str, Callable[[Path], Source]] = {'nersemble': NersembleSource, 'multiview': MultiviewSource}


@dataclass
class PrepareReport:
    """What became of the people."""

    written: dict[str, TrackReport] = field(default_factory=dict)
    present: list[str] = field(default_factory=list)  # were there already
    failed: dict[str, str] = field(default_factory=dict)  # person -> reason

    def text(self) -> str:
        """Summary for people, one line per person that failed."""
        lines = [f'{len(self.written)} people written, {len(self.present)} were there already, {len(self.failed)} failed']
        return '\n'.join(lines + [f'  {name}: {reason}' for name, reason in self.failed.items()])


def open_source(root: Path | str, layout: str) -> Source:
    """Open a data set of the given layout.

    Raises:
        DatasetError: an unknown layout, or nothing of it at `root`.
    """
    if layout not in FORMATS:
        raise DatasetError(f'format {layout!r} is unknown; choose one of {", ".join(FORMATS)}')
    return FORMATS[layout](Path(root))


def prepare(
    source: Source, out: Path | str, head: HeadModel, embedding: LandmarkEmbedding, *, frames: int = 12,
    config: TrackConfig | None = None, prefix: str = '', progress: Callable[[str, float], None] = lambda name, share: None,
) -> PrepareReport:
    """Track everyone in `source` who is not in `out` yet; who fails is reported and left out.

    Args:
        source: the data set.
        out: folder of the captures; made if missing.
        head, embedding: the head model and its landmarks.
        frames: at most so many moments of each person.
        config: sizes and thresholds.
        prefix: before each person's name, so that data sets may share a folder.
        progress: told the person and the share [0, 1] that is done.

    Raises:
        DatasetError: nobody could be prepared and nobody had been.
        StorageError: `out` can't be written.
    """
    out, people, report, tag = Path(out), source.people(), PrepareReport(), HeadTag.of_head(head)
    _make_folder(out)
    with LandmarkDetector(static_image_mode=True, max_faces=1) as detector:
        tracker = CaptureTracker(head, embedding, detector.detect, config)
        for i, person in enumerate(people):
            progress(person, i / len(people))
            name = prefix + person
            path = out / f'{name}{SUFFIX}'
            try:
                check_name(name)
                if _is_whole(path, tag):
                    report.present.append(name)
                    continue
                capture, report.written[name] = tracker.track(name, source.frames(person, frames))
                save_capture(path, capture, tag)
            except StorageError:
                raise
            except SegaError as e:
                report.written.pop(name, None)
                report.failed[name] = str(e)
            except Exception as e:  # libraries raise what they like; hours of work must not end at one person
                report.written.pop(name, None)
                report.failed[name] = f'{type(e).__name__}: {e}'
    progress('', 1.0)
    if not report.written and not report.present:
        raise DatasetError(f'{out}: not one of {len(people)} people could be prepared:\n{report.text()}')
    return report


def _is_whole(path: Path, tag: HeadTag) -> bool:
    """Whether a person is there already; a damaged file or another head's is made anew."""
    try:
        load_capture(path, tag)
    except SegaError:
        return False
    return True


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StorageError(f'cannot write {out}: {(e.strerror or str(e)).lower()}; choose a folder you may write to') from e
