"""The window of a head display, on SDL: it also runs on a bare screen without a desktop."""

import os
from dataclasses import dataclass

import numpy as np

from sega_ros.errors import ConfigError, SegaError

ROTATIONS = (0, 90, 180, 270)
_MARGIN = 0.03  # of the picture's shorter side, around a badge


class DisplayError(SegaError):
    """There is no screen that a window can be opened on."""


@dataclass(frozen=True)
class WindowConfig:
    """Where and how the picture is shown."""

    screen: int = 0
    rotation: int = 0  # degrees clockwise by which the picture is turned
    fullscreen: bool = True
    size: tuple[int, int] = (600, 1024)  # (H, W) of a window
    vsync: bool = True


def placement(picture: tuple[int, int], screen: tuple[int, int], rotation: int) -> tuple[int, int, int, int]:
    """Where a picture of (H, W) goes on a screen of (H, W) in whole, in its own aspect and as large as fits: x, y, width, height.

    `rotation` is one of ROTATIONS; the result is that of the turned picture.
    """
    height, width = picture if rotation in (0, 180) else picture[::-1]
    scale = min(screen[0] / height, screen[1] / width)
    fitted = max(1, round(width * scale)), max(1, round(height * scale))
    return (screen[1] - fitted[0]) // 2, (screen[0] - fitted[1]) // 2, *fitted


class Window:
    """Shows RGB pictures; all calls from one thread."""

    def __init__(self, config: WindowConfig, *, title: str):
        """Open the window.

        Raises:
            DisplayError: no screen, or not one of that number.
            ConfigError: a rotation that is none of ROTATIONS.
        """
        if config.rotation not in ROTATIONS:
            raise ConfigError(f'rotation: wanted one of {ROTATIONS}, found {config.rotation}')
        os.environ.setdefault('PYGAME_HIDE_SUPPORT_PROMPT', '1')
        try:
            import pygame
        except ImportError as e:
            raise DisplayError(f'the display needs pygame ({e}): pip install pygame-ce') from e
        self._pygame, self._config = pygame, config
        try:
            pygame.display.init()
            count = pygame.display.get_num_displays()
            if not 0 <= config.screen < count:
                pygame.display.quit()
                raise DisplayError(f'screen {config.screen}: there are {count}, counted from 0; choose another')
            flags = pygame.SCALED if config.vsync else 0  # SDL waits for the screen's refresh in scaled modes only
            size = config.size[::-1]
            if config.fullscreen:
                flags, size = flags | pygame.FULLSCREEN, pygame.display.get_desktop_sizes()[config.screen]
            self._surface = self._open(size, flags, config)
        except pygame.error as e:
            pygame.display.quit()
            raise DisplayError(f'no window could be opened: {e}; set DISPLAY or WAYLAND_DISPLAY, or SDL_VIDEODRIVER=kmsdrm on a '
                               'bare screen') from e
        pygame.font.init()
        pygame.display.set_caption(title)
        pygame.mouse.set_visible(not config.fullscreen)

    def _open(self, size: tuple[int, int], flags: int, config: WindowConfig):
        pygame = self._pygame
        try:
            surface = pygame.display.set_mode(size, flags, display=config.screen, vsync=int(config.vsync))
            self.vsync = config.vsync
        except pygame.error:  # drivers without vertical synchronisation refuse it
            surface = pygame.display.set_mode(size, flags & ~pygame.SCALED, display=config.screen)
            self.vsync = False
        return surface

    @property
    def mode(self) -> str:
        """What was obtained, in words."""
        width, height = self._surface.get_size()
        rate = getattr(self._pygame.display, 'get_current_refresh_rate', int)()  # pygame itself does not tell
        return (f'screen {self._config.screen}, {width} x {height}, {rate or "?"} Hz, '
                f'{"with" if self.vsync else "without"} vsync, driver {self._pygame.display.get_driver()}')

    def show(self, picture: np.ndarray | None, badges: tuple[str, ...] = ()) -> None:
        """Show a picture, uint8 RGB [H, W, 3], or black; waits for the screen where vsync was obtained.

        `badges` are short texts in the picture's upper left corner.
        """
        pygame = self._pygame
        self._surface.fill((0, 0, 0))
        if picture is not None:
            turned = pygame.image.frombuffer(np.ascontiguousarray(picture), picture.shape[1::-1], 'RGB')
        elif badges:
            turned = pygame.Surface(self._surface.get_size())
        else:
            turned = None
        if turned is not None:
            turned = self._with_badges(turned, badges)
            x, y, *size = placement(turned.get_size()[::-1], self._surface.get_size()[::-1], self._config.rotation)
            if self._config.rotation:
                turned = pygame.transform.rotate(turned, -self._config.rotation)
            if tuple(size) != turned.get_size():
                turned = pygame.transform.smoothscale(turned, size)
            self._surface.blit(turned, (x, y))
        pygame.display.flip()

    def _with_badges(self, surface, badges: tuple[str, ...]):
        if not badges:
            return surface
        pygame, surface = self._pygame, surface.copy()
        side = min(surface.get_size())
        font, at = pygame.font.Font(None, max(14, side // 16)), max(2, round(_MARGIN * side))
        y = at
        for badge in badges:
            text = font.render(f' {badge} ', True, (255, 255, 255), (150, 30, 30))
            surface.blit(text, (at, y))
            y += text.get_height() + 2
        return surface

    def wants_to_close(self) -> bool:
        """Take in what the user did; whether that was Escape, q, or closing the window."""
        pygame = self._pygame
        return any(event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key in (pygame.K_ESCAPE, pygame.K_q))
                   for event in pygame.event.get())

    def screenshot(self) -> np.ndarray:
        """What is shown, uint8 RGB [H, W, 3]."""
        return np.ascontiguousarray(self._pygame.surfarray.array3d(self._surface).transpose(1, 0, 2))

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
