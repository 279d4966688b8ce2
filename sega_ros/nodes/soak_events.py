"""Does what an endurance run's plan says, through the nodes' own services and parameters, and notes what came of it."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.task import Future

from sega_ros.errors import ErrorCode
from sega_ros.evaluation.soak import ANSWER, Event
from sega_ros.evaluation.soak_plan import CAMERA, CREATE, DELETE, SELECT, Action
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message
from sega_ros.nodes.processes import MeasurementError, pause, wait_until
from sega_ros.srv import CreateAvatar, DeleteAvatar, SelectAvatar

_FEWEST, _MOST = 2, 6  # avatars
_REPLACED = 1 / 3  # of the creations: the avatar that is driven may be among them
_SERVICES = {CREATE: (CreateAvatar, 'create_avatar'), DELETE: (DeleteAvatar, 'delete_avatar'),
             SELECT: (SelectAvatar, 'avatar_driver/select_avatar')}
_CONSENT = 'a synthetic person'


@dataclass(frozen=True)
class _Pending:
    """A call that is not answered yet."""

    kind: str
    what: str
    begun: int  # nanoseconds
    future: Future
    answered: Callable[[], None]  # what a good answer means


class Actor:
    """The one who changes everything; `show` tells the camera which clip to show."""

    def __init__(self, node: Node, photos: Sequence[np.ndarray], show: Callable[[str], None],
                 processes: Sequence[subprocess.Popen]) -> None:
        """Wait for the services.

        Raises:
            MeasurementError: a process ended meanwhile, or there are no services.
        """
        self._photos, self._show, self._processes = photos, show, processes
        self._clients = {kind: node.create_client(*service) for kind, service in _SERVICES.items()}
        self._parameters = AsyncParameterClient(node, 'avatar_driver')
        for ready in (*(client.service_is_ready for client in self._clients.values()), self._parameters.services_are_ready):
            wait_until(ready, 'the services of builder and driver', *processes)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._begun, self._made = time.time_ns(), 0
        self._ids: list[str] = []
        self._pending: list[_Pending] = []
        self._events: list[Event] = []
        self.refused = 0  # frames, as the driver counts them

    @property
    def events(self) -> tuple[Event, ...]:
        """What was done and answered, in the order in which it was done."""
        return tuple(sorted(self._events, key=lambda event: event.at))

    def first_avatars(self) -> None:
        """Create as many avatars as there always are, before anything counts.

        Raises:
            MeasurementError: one was refused, or a process ended.
        """
        for k in range(_FEWEST):
            self._create(f'first_{k}', quality=0, photo=self._photos[k % len(self._photos)])
            self.finish()
        if bad := [event for event in self._events if event.outcome != ErrorCode.OK.name]:
            raise MeasurementError(f'avatar {bad[0].what} was answered with {bad[0].outcome}; the log of avatar_builder says why')

    def begin(self, now_ns: int) -> None:
        """Count from now on."""
        self._begun, self._events = now_ns, []

    def __call__(self, action: Action) -> None:
        """Do one thing now."""
        values = dict(action.values)
        if action.kind == CAMERA:
            self._show(str(values['clip']))
            self._note(CAMERA, str(values['clip']), time.time_ns(), ErrorCode.OK.name)
        elif action.kind == SELECT:
            self._call(SELECT, name := self._pick(action.draw), SelectAvatar.Request(avatar_id=name))
        elif action.kind == DELETE and len(self._ids) > _FEWEST:
            name = self._pick(action.draw)
            self._call(DELETE, name, DeleteAvatar.Request(avatar_id=name), lambda: self._ids.remove(name))
        elif action.kind == CREATE:
            self._create_some(int(values['quality']), action.draw)
        elif action.kind not in _SERVICES:
            self._set(action.kind, values)

    def update(self) -> None:
        """Note what has been answered, and what was not in time."""
        for call in list(self._pending):
            overdue = time.time_ns() - call.begun > ANSWER * 1e9
            if not call.future.done() and not overdue:
                continue
            self._pending.remove(call)
            outcome = _outcome(call.future.result()) if call.future.done() else 'no answer'
            if outcome == ErrorCode.OK.name:
                call.answered()
            self._note(call.kind, call.what, call.begun, outcome)

    def finish(self) -> None:
        """Wait for the answers that are still to come.

        Raises:
            MeasurementError: a process ended.
        """
        while self._pending:
            pause(0.02, *self._processes)
            self.update()

    def _pick(self, draw: float) -> str:
        return self._ids[int(draw * len(self._ids))]

    def _create_some(self, quality: int, draw: float) -> None:
        photo = self._photos[int(draw * 1000) % len(self._photos)]
        if draw < _REPLACED or len(self._ids) >= _MOST:
            self._create(self._pick(draw % _REPLACED / _REPLACED), quality=quality, photo=photo)
            return
        self._made += 1
        self._create(f'made_{self._made}', quality=quality, photo=photo)

    def _create(self, name: str, *, quality: int, photo: np.ndarray) -> None:
        image = rgb_to_image_message(photo, stamp=ns_to_stamp(0), frame_id='photo')
        request = CreateAvatar.Request(image=image, avatar_id=name, quality=quality, consent=_CONSENT, replace=True)
        self._call(CREATE, name, request, lambda: self._ids.append(name) if name not in self._ids else None)

    def _set(self, kind: str, values: dict[str, Any]) -> None:
        what = ' '.join(map(str, values.values()))
        future = self._parameters.set_parameters([Parameter(name, value=value) for name, value in values.items()])
        self._pending.append(_Pending(kind, what, time.time_ns(), future, lambda: None))

    def _call(self, kind: str, what: str, request: object, answered: Callable[[], None] = lambda: None) -> None:
        future = self._clients[kind].call_async(request)
        self._pending.append(_Pending(kind, what, time.time_ns(), future, answered))

    def _note(self, kind: str, what: str, begun: int, outcome: str) -> None:
        at, seconds = (begun - self._begun) / 1e9, (time.time_ns() - begun) / 1e9
        self._events.append(Event(round(at, 3), kind, what, round(seconds, 3), outcome))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            self.refused = int(values.get('refused', self.refused))


def _outcome(answer: Any) -> str:
    """Return the name of an answer's error code."""
    if hasattr(answer, 'results'):  # of the parameters
        refused = [result.reason for result in answer.results if not result.successful]
        return f'refused: {refused[0]}' if refused else ErrorCode.OK.name
    return ErrorCode(answer.error_code).name
