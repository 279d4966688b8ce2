"""Measure how MediaPipe errs on synthetic performers and write the tracker's noise model.

    python -m sega_ros.evaluation.landmark_noise sega_ros/tracking/landmark_noise.npz

Benchmarks use other seeds (`bench_tracking`: 1 to 3).
"""

import argparse
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from sega_ros.camera import project
from sega_ros.head import load_head
from sega_ros.head.model import HeadModel
from sega_ros.synthetic.performer import Performer
from sega_ros.tracking.embedding import LandmarkEmbedding, landmark_embedding
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.tracking.noise import LandmarkNoise
from sega_ros.tracking.topology import gap_axes

_FACE_UNIT = 256.0


def landmark_errors(head: HeadModel, embedding: LandmarkEmbedding, seed: int, times: Iterable[float]) -> np.ndarray:
    """Return errors [N, 478, 2] over a performance less its first picture's: px of a 256 px face, without roll."""
    performer = Performer(head, seed)
    errors = []
    with LandmarkDetector(static_image_mode=True) as still, LandmarkDetector() as stream:
        for i, t in enumerate([0.0, *times]):
            image, params, camera = performer.frame(float(t))
            found = (stream if i else still).detect(image)
            if not found:
                continue
            seen = found[0] if i else still.refine(image, found[0])
            true = project(embedding.points(performer.person.poser.pose(params), head.faces), camera)[0]
            points = seen.points[:, :2]
            down = gap_axes(points)[2]
            side = float((points[:468].max(0) - points[:468].min(0)).max())
            turn = np.array([[down[1], -down[0]], [down[0], down[1]]])  # x, y to across, down
            errors.append((points - true) @ turn.T * _FACE_UNIT / side)
    return np.stack(errors[1:]) - errors[0]


def measure(
    head: HeadModel, embedding: LandmarkEmbedding, seeds: Iterable[int], *, step: float = 0.17,
    progress: Callable[[str], None] = lambda _: None,
) -> LandmarkNoise:
    """Measure the noise over the performances of `seeds`, a picture every `step` seconds."""
    errors = []
    for seed in seeds:
        errors.append(landmark_errors(head, embedding, seed, np.arange(step, Performer.period, step)))
        progress(f'performer {seed}: rms {np.sqrt(np.square(errors[-1]).mean()):.2f} px')
    return LandmarkNoise.of_errors(np.concatenate(errors))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', help='the .npz to write')
    parser.add_argument('--seeds', type=int, nargs='+', default=list(range(100, 116)), help='performers')
    options = parser.parse_args(arguments)
    head = load_head()
    measure(head, landmark_embedding(head), options.seeds, progress=print).save(options.out)


if __name__ == '__main__':
    main()
