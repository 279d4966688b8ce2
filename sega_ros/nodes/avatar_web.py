"""Node that shows the avatar's picture to browsers."""

from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

from sega_ros.config import option
from sega_ros.errors import ImageError
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.diagnostics import OK, Diagnostics, Status
from sega_ros.nodes.managed import run_node
from sega_ros.nodes.parameters import Parameters
from sega_ros.nodes.reader import Reader
from sega_ros.nodes.showing import Showing, ShowingConfig
from sega_ros.nodes.web_guard import listen, own_names
from sega_ros.nodes.web_server import PageState, WebServer

TOPIC = 'avatar/image/compressed'
_JPEG = b'\xff\xd8'


@dataclass(frozen=True)
class WebConfig(ShowingConfig):
    """Parameters of `avatar_web`."""

    host: str = option('127.0.0.1', 'Address to listen on: this machine alone, as there is no password; 0.0.0.0 is all networks',
                       read_only=True)
    port: int = option(8088, 'Port to listen on; 0 is a free one, which the log tells', bounds=(0, 65535), read_only=True)
    host_names: str = option('', "Names, comma between, by which browsers may call this machine beside its own, localhost and "
                                 'addresses', read_only=True)
    max_clients: int = option(8, 'Viewers at a time', bounds=(1, 64), read_only=True)


class AvatarWeb(Node):
    """Hands the driver's JPEGs on as they are, and takes them only while somebody looks: nothing is rendered for nobody."""

    def __init__(self, **kwargs) -> None:
        """Declare parameters and serve.

        Raises:
            ConfigError: parameters that don't fit.
            WebError: see `web_guard.listen`.
        """
        super().__init__('avatar_web', **kwargs)
        self.settings = Parameters(self, WebConfig)
        config = self.settings.load()
        self.showing = Showing(self, TOPIC)
        self._readers: list[Reader] = []
        self.server = WebServer(listen(config.host, config.port), names=own_names(config.host, config.host_names),
                                max_clients=config.max_clients, state=self._state, wants=self._subscribe)
        self.server.start()
        self.get_logger().info(f'the avatar is at {self.server.address}')
        self._diagnostics = Diagnostics(self, self.status)

    def _subscribe(self, wanted: bool) -> None:
        """Listen, or no longer; called in the server's thread only."""
        if wanted and not self._readers and self.context.ok():
            failed = self.showing.failed
            self._readers = [
                Reader(self, CompressedImage, TOPIC, self._on_image, qos.image_input(), failed=failed),
                Reader(self, FlameExpression, 'expression', self.showing.on_expression, qos.expression(), failed=failed)]
        elif not wanted:
            for reader in self._readers:
                reader.close()
            self._readers = []

    def _on_image(self, message: CompressedImage) -> None:
        jpeg = bytes(memoryview(message.data))
        if not jpeg.startswith(_JPEG):
            raise ImageError(f'{self.resolve_topic_name(TOPIC)}: found format {message.format[:40]!r}, wanted JPEG; let its '
                             'publisher compress so')
        self.showing.picture_came()
        self.server.publish(jpeg)

    def _state(self) -> PageState:
        config = self.settings.value
        return PageState(self.showing.badges(config), config.standby_after, self.status().reason)

    def status(self) -> Status:
        """Return the health for the diagnostics."""
        values = {'address': self.server.address, 'viewers': self.server.viewers, 'sent': self.server.sent}
        status = self.showing.status(self.settings.value, values)
        return status if self._readers else Status(OK, 'nobody looks', status.values)

    def destroy_node(self) -> None:
        """Part from the viewers and stop listening."""
        self.server.close()
        super().destroy_node()


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    raise SystemExit(run_node(AvatarWeb, 'avatar_web', args))
