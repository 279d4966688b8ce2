"""One evaluation: a recording and an avatar in, a folder of figures, tables, a bag and a clip out."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice, pairwise
from pathlib import Path

from sega_ros.avatar.drive import AvatarDriver, View, driver_identity
from sega_ros.config import to_dict
from sega_ros.errors import NoFaceError, RequestError
from sega_ros.evaluation.replay.config import EvaluateConfig
from sega_ros.evaluation.replay.driven import Driven, Stage, Times, drive, drive_expressions, drive_realtime, pair
from sega_ros.evaluation.replay.figures import FrameJudge
from sega_ros.evaluation.replay.folder import BAG, CLIP, FORMAT, FRAMES, RUN, SUMMARY, TIMING, RunFolder
from sega_ros.evaluation.replay.identity import Person, person_of_recording
from sega_ros.evaluation.replay.measure import Measurer, Rules
from sega_ros.evaluation.replay.recording import Recording, Source, fingerprint
from sega_ros.evaluation.replay.report import write_report
from sega_ros.evaluation.replay.rows import FrameFigures
from sega_ros.evaluation.replay.totals import to_csv, to_json, totals
from sega_ros.evaluation.replay.window import MASKS, SIZE
from sega_ros.head.model import HeadModel
from sega_ros.io.bags import BagReader, BagWriter
from sega_ros.io.memory import process_memory
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.tracker import FaceTracker, TrackerConfig

_RATED = 30  # frames whose stamps say the rate of the clip
_PACKAGES = ('sega_ros', 'torch', 'numpy', 'scipy', 'opencv-contrib-python', 'mediapipe', 'numba', 'scikit-image', 'torchmetrics',
             'rosbags')
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Job:
    """What is evaluated."""

    source: Source  # frames that drive, or recorded expressions
    out: Path  # folder of the results
    config: EvaluateConfig
    person: Person | None = None  # whose avatar; None: of the recording itself (protocol `self`)
    person_key: str = ''  # what the person's avatar comes from: checksum of a photo or of a stored avatar's file
    rendered: Source | None = None  # protocol `rendered`: recorded pictures of the avatar
    overwrite: bool = False


def evaluate(job: Job, head: HeadModel, embedding: LandmarkEmbedding, *, progress: Progress = lambda stage, share: None) -> dict:
    """Run the evaluation and write its folder; returns the summary (see docs/evaluation.md).

    Raises:
        RecordingError: the recording is missing, damaged, empty or has no such topic.
        NoFaceError: no frame shows a face, or none may become an avatar.
        RequestError: options that do not go together; a folder that holds something else.
    """
    _check(job)
    started, begun = time.time(), time.perf_counter()
    sources = [job.source, *([job.rendered] if job.rendered else [])]
    inputs = [fingerprint(s.path, lambda share: progress('checksum of the recording', 0.02 * share)) for s in sources]
    key = {'inputs': inputs, 'config': to_dict(job.config), 'person': job.person_key, 'versions': _versions(), 'format': FORMAT,
           'topics': [[s.topic, s.expression_topic, s.fps] for s in sources]}
    with ExitStack() as stack:
        recording = stack.enter_context(Recording(job.source))
        folder = stack.enter_context(RunFolder(job.out, key, overwrite=job.overwrite))
        person = job.person or _own_person(job, recording, head, embedding, progress)
        run = _Run(job, recording, folder, person, head, embedding, progress, stack)
        run.go()
        summary = run.summary(inputs)
        folder.finish({TIMING: run.timing(), RUN: _run_json(job, started, begun), FRAMES: run.table(), SUMMARY: to_json(summary)})
    progress('report', 0.97)
    write_report(job.out)
    return summary


def _check(job: Job) -> None:
    """Raise RequestError for options that do not go together."""
    config = job.config
    if config.protocol == 'cross' and job.person is None:
        raise RequestError('protocol cross: give the avatar that is driven, with --avatar or --photo')
    if config.protocol == 'expression' and job.person is None:
        raise RequestError('protocol expression: give the avatar that the messages drive, with --avatar or --photo')
    if (config.protocol == 'rendered') != (job.rendered is not None):
        raise RequestError('protocol rendered: --rendered names the bag of the recorded pictures; other protocols draw their own')
    if config.realtime and config.protocol in ('expression', 'rendered'):
        raise RequestError(f'--realtime replays camera frames; protocol {config.protocol} has none that are tracked')


def _own_person(job: Job, recording: Recording, head: HeadModel, embedding: LandmarkEmbedding, progress: Progress) -> Person:
    """The recording's own person; where pictures were recorded, for the face shape alone, so that every frame is measured."""
    shape_only = job.config.protocol == 'rendered'
    person = person_of_recording(recording.frames(), head=head, embedding=embedding,
                                 quality='preview' if shape_only else job.config.quality,
                                 progress=lambda stage, share: progress(stage, 0.02 + 0.06 * share))
    return replace(person, frame=None, source={'kind': 'recorded', 'shape_of_frame': person.frame}) if shape_only else person


class _Run:
    """Drives, measures and keeps one recording."""

    def __init__(self, job: Job, recording: Recording, folder: RunFolder, person: Person, head: HeadModel,
                 embedding: LandmarkEmbedding, progress: Progress, stack: ExitStack):
        self.job, self.recording, self.folder, self.person = job, recording, folder, person
        self._head, self._embedding, self._progress, self._stack = head, embedding, progress, stack
        self.rows: list[FrameFigures] = []
        self._times: list[tuple[int, Times, float]] = []
        self._size: tuple[int, int] | None = None
        self._stamps = _Stamps()
        self._missing: dict[str, str] = {}
        self._side: float | None = None
        self._dropped = 0
        self._warnings = list(person.warnings)

    def go(self) -> None:
        """Measure every frame; what an interrupted run has measured already is taken over."""
        config, known = self.job.config, self.folder.known
        overlays = config.view == 'input'
        rules = Rules(overlays, config.protocol != 'cross', self.person.frame, config.score_every)
        judge = FrameJudge(_fitter(self._head, self._embedding, self.person), **_networks(config, self._head))
        self._missing = judge.missing
        self.rows = list(known)
        with Measurer(judge, self._head, self._embedding, rules, done=len(known)) as measurer, self._clip() as clip, \
                self._bag() as bag:
            total = self.recording.frame_count or 0
            for driven in self._driven():
                rows, windows = measurer.measure(driven)
                self._keep(rows)
                clip.write(windows)
                self._note(driven, bag)
                self._progress('frames', 0.1 + 0.85 * min(1.0, (driven.index + 1) / total) if total else 0.5)
            self._keep(measurer.finish())
            self._side = measurer.side
        if measurer.side is None and not any(r.scored for r in self.rows):
            raise NoFaceError(f'{self.recording.source.path}: no face in any of {len(self.rows)} frames; nothing can be measured')

    def _keep(self, rows: list[FrameFigures]) -> None:
        """Keep the rows that are new."""
        new = [row for row in rows if row.frame >= len(self.rows)]
        self.folder.keep(new)
        self.rows += new

    def _note(self, driven: Driven, bag: BagWriter | None) -> None:
        """Times, sizes, and the output bag."""
        dropped = self.job.config.realtime and driven.drawn is None
        if not dropped:
            self._times.append((driven.index, driven.times, process_memory(os.getpid())))
        self._stamps.see(driven.stamp_ns)
        size = driven.truth.shape[:2] if driven.truth is not None else driven.drawn.shape[:2]
        if self._size is not None and size != self._size and not any('size' in w for w in self._warnings):
            self._warnings.append(f'frame {driven.index} has another size ({size[1]} x {size[0]} px) than those before')
        self._size = self._size or size
        if bag is not None and not dropped:
            bag.write_expression('/expression', driven.expression)
            self._write_picture(bag, driven)

    def _write_picture(self, bag: BagWriter, driven: Driven) -> None:
        kind, frame_id = self.job.config.pictures, driven.expression.frame_id
        if driven.drawn is None or kind == 'none':
            return
        if kind == 'raw':
            bag.write_image('/avatar/image', driven.drawn, stamp_ns=driven.stamp_ns, frame_id=frame_id)
        else:
            bag.write_jpeg('/avatar/image/compressed', driven.drawn, stamp_ns=driven.stamp_ns, frame_id=frame_id)

    def _driven(self) -> Iterator[Driven]:
        """Frames of the protocol."""
        config = self.job.config
        stage = Stage(self._tracker(), self._driver(), View(config.view, size=(config.size, config.size)))
        frames = self.recording.frames
        if config.protocol == 'expression':
            truth = frames() if self.recording.topic and config.view == 'input' else None
            yield from drive_expressions(self.recording.expressions(), truth, stage, size=(config.size, config.size))
        elif config.protocol == 'rendered':
            recorded = self._stack.enter_context(Recording(self.job.rendered))
            yield from pair(frames(), recorded.frames(), stage)
        elif config.realtime:
            yield from self._realtime(stage)
        else:
            yield from drive(frames(), stage)

    def _realtime(self, stage: Stage) -> Iterator[Driven]:
        """Drive at the recorded pace, keeping the pictures; measure them afterwards, as measuring takes longer than driving."""
        from tempfile import TemporaryDirectory

        kept: dict[int, Driven] = {}
        with TemporaryDirectory(dir=self.folder.path, prefix='.realtime-') as folder:
            path = Path(folder) / 'pictures'
            with BagWriter(path) as bag:
                for driven in drive_realtime(self.recording.frames(), stage):
                    bag.write_image('/avatar/image', driven.drawn, stamp_ns=driven.stamp_ns, frame_id='')
                    kept[driven.index] = replace(driven, truth=None, drawn=None)
                    self._progress('replaying at the recorded pace', 0.1)
            second = Stage(self._tracker(), None, View('input'))
            with BagReader(path) as bag:
                pictures = bag.images(bag.choose_topic('/avatar/image', ('sensor_msgs/msg/Image',)))
                for found in pair(self.recording.frames(), pictures, second):
                    first = kept.get(found.index)
                    self._dropped += first is None
                    yield found if first is None else replace(first, truth=found.truth, drawn=found.drawn)

    def _tracker(self) -> FaceTracker | None:
        """A tracker as the live node has one, but learning in the foreground: frames must not depend on timing."""
        config = self.job.config
        if config.protocol == 'expression':
            return None
        identity = self.person.avatar.identity
        if config.protocol in ('cross', 'self') and self.person.frame is None:
            first = next(self.recording.frames())
            identity = driver_identity(self.person.avatar, self._head, self._embedding, first.image,
                                       choice=config.driver_identity)
        tracker = FaceTracker(self._head, self._embedding, identity=identity,
                              config=TrackerConfig(focal_length=self._focal_length()))
        return self._stack.enter_context(tracker)

    def _focal_length(self) -> float:
        """The camera's where a bag states it; of an avatar made from the recording, the one it was fitted with."""
        return 0.0 if self.person.frame is not None else self.recording.focal_length or 0.0

    def _driver(self) -> AvatarDriver | None:
        if self.job.config.protocol == 'rendered':
            return None
        driver = AvatarDriver(self.person.avatar, self._head)
        if self.job.config.detail:
            driver.detail = self.job.config.detail
        driver.render(driver.neutral(), View('frontal', size=(SIZE, SIZE)))  # as a live node does: the first call compiles
        return driver

    @contextmanager
    def _clip(self):
        from sega_ros.io import VideoWriter

        with VideoWriter(self.folder.path / CLIP, size=(SIZE, 2 * SIZE), fps=self._rate(), crf=20) as clip:
            yield clip

    def _rate(self) -> float:
        """Frames/s of the clip: the recording's own, as its first frames' stamps say."""
        stream = self.recording.expressions() if self.job.config.protocol == 'expression' else self.recording.frames()
        steps = sorted(b - a for a, b in pairwise(item.stamp_ns for item in islice(stream, _RATED)) if b > a)
        return min(max(1e9 / steps[len(steps) // 2], 1.0), 240.0) if steps else 30.0

    @contextmanager
    def _bag(self):
        """The output bag; it gets its name when it is whole."""
        import shutil

        if self.job.config.protocol == 'rendered':
            yield None
            return
        part, path = self.folder.path / f'{BAG}.part', self.folder.path / BAG
        for old in (part, path):
            shutil.rmtree(old, ignore_errors=True)
        with BagWriter(part) as bag:
            yield bag
        part.rename(path)

    def summary(self, inputs: list[dict]) -> dict:
        """What the run comes to, without anything that differs between two runs of the same."""
        config, recording = self.job.config, self.recording
        height, width = self._size or (0, 0)
        if self._stamps.backwards:
            self._warnings.append(f'{self._stamps.backwards} frames have a stamp that is not later than the one before')
        found = totals(self.rows, dropped=self._dropped)
        return {
            'format': FORMAT, 'protocol': config.protocol, 'view': config.view, 'config': to_dict(config), 'inputs': inputs,
            'recording': {'name': recording.name, 'topic': recording.topic, 'frames': len(self.rows), 'width': width,
                          'height': height, 'out_of_order': self._stamps.backwards},
            'identity': self.person.source, 'masks': MASKS, 'window': {'size': SIZE, 'side': self._side},
            'missing': self._missing, 'warnings': self._warnings, **found}

    def table(self) -> str:
        """frames.csv."""
        return to_csv(self.rows)

    def timing(self) -> str:
        """timing.csv."""
        lines = [f'{k},{t.track_ms:.3f},{t.bind_ms:.3f},{t.draw_ms:.3f},{t.latency_ms:.3f},{mb:.1f}' for k, t, mb in self._times]
        return '\n'.join(['frame,track_ms,bind_ms,draw_ms,latency_ms,rss_mb', *lines]) + '\n'


class _Stamps:
    """Counts stamps that do not rise."""

    def __init__(self) -> None:
        self.backwards, self._last = 0, None

    def see(self, stamp_ns: int) -> None:
        """Take the next one."""
        if self._last is not None and stamp_ns <= self._last:
            self.backwards += 1
        self._last = stamp_ns


def _fitter(head: HeadModel, embedding: LandmarkEmbedding, person: Person):
    from sega_ros.tracking.expression import ExpressionFitter

    return ExpressionFitter(head, embedding, person.avatar.identity)


def _networks(config: EvaluateConfig, head: HeadModel) -> dict:
    """Networks that figures need, as `FrameJudge` takes them."""
    from sega_ros.evaluation.metrics import ArcFaceSimilarity
    from sega_ros.models.lpips import load_lpips
    from sega_ros.models.weights import load_prior

    model = load_prior(head)
    return {'encoder': model.identity if model else None, 'lpips': load_lpips(config.lpips).distance if config.lpips else None,
            'csim': ArcFaceSimilarity(config.arcface) if config.arcface else None}


def _versions() -> dict[str, str]:
    found = {'python': platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = 'not installed'
    return found


def _run_json(job: Job, started: float, begun: float) -> str:
    return to_json({
        'started': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(started)), 'seconds': round(time.perf_counter() - begun, 1),
        'peak_mb': round(process_memory(os.getpid(), peak=True), 1), 'realtime': job.config.realtime, 'versions': _versions(),
        'machine': {'system': platform.platform(), 'cores': os.cpu_count(), 'python': sys.version.split()[0]},
        'config': to_dict(job.config)})
