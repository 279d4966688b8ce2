"""Several recordings and topics, one run each, and whose avatar they drive."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import RequestError
from sega_ros.evaluation.replay.config import EvaluateConfig
from sega_ros.evaluation.replay.identity import Person, person_of_photo
from sega_ros.evaluation.replay.recording import Source
from sega_ros.evaluation.replay.run import Job, Progress, evaluate
from sega_ros.head.model import HeadModel
from sega_ros.io import read_file, read_image
from sega_ros.io.images import MAX_BYTES
from sega_ros.tracking.embedding import LandmarkEmbedding

_SHOWN = ('psnr_face', 'ssim_face', 'akd', 'identity_distance', 'aed')  # of a result's one line


@dataclass(frozen=True)
class Request:
    """What a user asks for."""

    recordings: Sequence[str]  # paths
    out: str  # folder
    config: EvaluateConfig
    topics: tuple[str, ...] = ()
    expression_topic: str = ''
    avatar: str | None = None  # id of a stored one
    photo: str | None = None  # path
    avatars: str | None = None  # folder of the stored ones
    rendered: str | None = None  # path
    rendered_topic: str = ''
    fps: float = 30.0
    overwrite: bool = False


@dataclass(frozen=True)
class Result:
    """One finished run."""

    name: str
    folder: Path
    summary: dict

    @property
    def text(self) -> str:
        """One line for people."""
        frames, figures = self.summary['frames'], self.summary['figures']
        shown = ', '.join(f'{n} {figures[n]["mean"]:.4g}' for n in _SHOWN if n in figures)
        return (f'{self.folder / "report.html"}: {frames["total"]} frames, {frames["scored"]} measured, {frames["lost"]} lost, '
                f'{frames["dropped"]} dropped; {shown or "no figures"}')


def evaluate_all(request: Request, head: HeadModel, embedding: LandmarkEmbedding, *,
                 progress: Progress = lambda stage, share: None) -> list[Result]:
    """Run every recording and topic, one after the other.

    Raises:
        SegaError: as `evaluate` does; runs that were finished before stay.
    """
    sources = [Source(Path(path), topic, request.expression_topic, request.fps)
               for path in request.recordings for topic in request.topics or ('',)]
    names = _names(sources, several_topics=len(request.topics) > 1)
    person, key = _person(request, head, embedding, progress)
    rendered = Source(Path(request.rendered), request.rendered_topic) if request.rendered else None
    results = []
    for k, (source, name) in enumerate(zip(sources, names, strict=True)):
        folder = Path(request.out) / name if len(sources) > 1 else Path(request.out)
        job = Job(source, folder, request.config, person, key, rendered, request.overwrite)

        def report(stage: str, share: float, k: int = k, name: str = name) -> None:
            progress(f'{name}: {stage}' if len(sources) > 1 else stage, (k + share) / len(sources))

        results.append(Result(name, folder, evaluate(job, head, embedding, progress=report)))
    return results


def _names(sources: Sequence[Source], *, several_topics: bool) -> list[str]:
    """A folder's name for each run."""
    names = []
    for source in sources:
        name = source.path.resolve().name + ('-' + source.topic.strip('/').replace('/', '-') if several_topics else '')
        if name in names:
            raise RequestError(f'two recordings are called {name!r}: evaluate them apart, or give one another name')
        names.append(name)
    return names


def _person(request: Request, head: HeadModel, embedding: LandmarkEmbedding, progress: Progress) -> tuple[Person | None, str]:
    """Whose avatar is driven, None for the recording's own; and a checksum of what it comes from."""
    if request.avatar:
        store = AvatarStore(request.avatars)
        return Person(store.load(request.avatar), {'kind': 'avatar', 'avatar': request.avatar}), store.sha256(request.avatar)
    if request.photo:
        try:
            key = hashlib.sha256(read_file(request.photo, limit=MAX_BYTES)).hexdigest()
        except FileNotFoundError as e:
            raise RequestError(f'{request.photo}: no such photo') from e
        person = person_of_photo(read_image(request.photo), Path(request.photo).name, head=head, embedding=embedding,
                                 quality=request.config.quality, progress=lambda stage, share: progress(stage, 0.0))
        return person, key
    return None, ''
