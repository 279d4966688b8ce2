"""The two MediaPipe graphs behind the landmark detector, both with the models that the wheel carries.

`mp.solutions.FaceMesh` either finds the face anew in every frame (slow, and its region jumps) or follows its own last
landmarks (another region than a still picture gets: 1.3 px off). Here the landmark model gets the region that *we*
choose: that of a still picture, and steady.
"""

import contextlib
import importlib
import os
import sys
import types
from collections.abc import Iterator

import numpy as np

_PRESENCE = 'facelandmarkcpu__face_presence_score'
# A landmark on the wire: tag and length of the message, then each coordinate behind its tag.
_WIRE = np.dtype([('head', '<u2'), ('tag_x', 'u1'), ('x', '<f4'), ('tag_y', 'u1'), ('y', '<f4'), ('tag_z', 'u1'), ('z', '<f4')])
_TAGS = (('head', 0x0F0A), ('tag_x', 0x0D), ('tag_y', 0x15), ('tag_z', 0x1D))
# The calling thread does the work: with threads of its own the graph needs half a millisecond more of each frame.
_REGION_GRAPH = """
executor { name: "" type: "ApplicationThreadExecutor" }
input_stream: "image"
input_stream: "roi"
output_stream: "landmarks"
node {
  calculator: "ConstantSidePacketCalculator"
  output_side_packet: "PACKET:with_attention"
  node_options: { [type.googleapis.com/mediapipe.ConstantSidePacketCalculatorOptions]: { packet { bool_value: true } } }
}
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
"""


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what native code writes to stderr: MediaPipe logs before its own log level can be set.

    Errors still come as exceptions.
    """
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all: nothing to silence
        yield
        return
    try:
        with open(os.devnull, 'wb') as sink:  # noqa: PTH123 (a descriptor is needed)
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


class _Later(types.ModuleType):
    """A module that is imported when something in it is first used."""

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def _without_plots() -> Iterator[None]:
    """Keep matplotlib out of what is imported here: MediaPipe's drawing helpers want it, and it takes longer than all the rest.

    Who does draw with them gets it then.
    """
    package, plots = 'matplotlib', 'matplotlib.pyplot'
    if package in sys.modules or 'mediapipe' in sys.modules:
        yield
        return
    places = {name: _Later(name) for name in (package, plots)}
    places[package].pyplot = places[plots]
    sys.modules.update(places)
    try:
        yield
    finally:
        for name, place in places.items():
            if sys.modules.get(name) is place:
                del sys.modules[name]


def import_mediapipe():
    """Return the mediapipe module with the solutions API and its bundled models.

    Raises:
        ImportError: it is missing, or too new to carry models.
    """
    os.environ.setdefault('GLOG_minloglevel', '2')
    try:
        with _without_plots():
            import mediapipe
    except ImportError as error:
        raise ImportError("mediapipe is not installed: pip install 'mediapipe==0.10.21'") from error
    if not hasattr(mediapipe, 'solutions'):
        raise ImportError(
            f'mediapipe {mediapipe.__version__} carries no models: install mediapipe==0.10.21, or give the path of a '
            'face_landmarker.task file')
    return mediapipe


def landmarks_to_array(points, width: int, height: int) -> np.ndarray:
    """Pixels [P, 3] of MediaPipe's NormalizedLandmarkList; z has the scale of x.

    Read from the message's serialised form where that holds nothing but x, y and z: 478 Python objects take ten times as long.
    """
    scale, data = np.array([width, height, width], np.float32), points.SerializeToString()
    if len(data) == _WIRE.itemsize * len(points.landmark):
        wire = np.frombuffer(data, _WIRE)
        if all((wire[name] == tag).all() for name, tag in _TAGS):
            return np.stack([wire['x'], wire['y'], wire['z']], 1) * scale
    return np.array([(p.x, p.y, p.z) for p in points.landmark], np.float32).reshape(-1, 3) * scale


class FaceFinder:
    """Find every face of a whole picture (BlazeFace, then Face Mesh)."""

    def __init__(self, max_faces: int, min_confidence: float) -> None:
        mediapipe = import_mediapipe()
        with quiet_stderr():
            self._graph = mediapipe.solutions.face_mesh.FaceMesh(
                static_image_mode=True, refine_landmarks=True, max_num_faces=max_faces,
                min_detection_confidence=min_confidence, min_tracking_confidence=min_confidence)
            self._graph.process(np.zeros((64, 64, 3), np.uint8))  # the rest of the log comes with the first picture

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """Landmarks [478, 3] in pixels of each face in `image` (uint8 RGB [H, W, 3])."""
        found = self._graph.process(image).multi_face_landmarks
        height, width = image.shape[:2]
        return [landmarks_to_array(face, width, height) for face in found or ()]

    def close(self) -> None:
        """Release the graph."""
        self._graph.close()


class RegionMesher:
    """Mesh the face in a given square region of a picture."""

    def __init__(self) -> None:
        import_mediapipe()
        from mediapipe.framework.formats import rect_pb2
        from mediapipe.python.solution_base import PacketDataType, SolutionBase

        self._rect = rect_pb2.NormalizedRect
        with quiet_stderr():
            self._graph = SolutionBase(
                graph_config=_REGION_GRAPH, outputs=['landmarks', _PRESENCE],
                stream_type_hints={_PRESENCE: PacketDataType.FLOAT},
                calculator_params={'facelandmarkcpu__ThresholdingCalculator.threshold': 0.0})
            self(np.zeros((64, 64, 3), np.uint8), np.array([32.0, 32.0]), 64.0, 0.0)

    def __call__(self, image: np.ndarray, centre: np.ndarray, size: float, angle: float) -> tuple[np.ndarray, float]:
        """Mesh the square around `centre` (x, y) of `size` pixels, turned by `angle` radians.

        Returns the landmarks [478, 3] in pixels of `image` (uint8 RGB [H, W, 3]) and the network's score for a face
        being there at all, in [0, 1].
        """
        height, width = image.shape[:2]
        rect = self._rect(x_center=centre[0] / width, y_center=centre[1] / height, width=size / width,
                          height=size / height, rotation=angle)
        result = self._graph.process({'image': image, 'roi': rect})
        return landmarks_to_array(result.landmarks, width, height), float(getattr(result, _PRESENCE))

    def close(self) -> None:
        """Release the graph."""
        self._graph.close()
