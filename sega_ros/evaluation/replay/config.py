"""What an evaluation does."""

from dataclasses import dataclass

from sega_ros.config import option

PROTOCOLS = ('self', 'cross', 'expression', 'rendered')


@dataclass(frozen=True)
class EvaluateConfig:
    """Options of `sega evaluate`."""

    protocol: str = option(
        'self', 'self: an avatar of the recording\'s own person, driven by and compared with it; cross: another person drives; '
        'expression: recorded FlameExpression messages drive; rendered: an avatar\'s recorded pictures are compared',
        choices=PROTOCOLS)
    view: str = option('input', 'where the avatar is seen from; only input lies over the driving frames',
                       choices=('input', 'frontal', 'follow'))
    size: int = option(512, 'side of the picture where the view is not the input\'s', unit='px', bounds=(64, 4096))
    quality: str = option('standard', 'of an avatar that is made for this', choices=('preview', 'standard', 'high'))
    driver_identity: str = option('auto', 'whose face shape the tracking assumes: the avatar\'s, or one fitted to the driver',
                                  choices=('auto', 'avatar', 'fit'))
    detail: int = option(0, 'splats to draw, 0 for all', bounds=(0, 1_000_000))
    score_every: int = option(1, 'every how manyth frame is measured; all are driven', unit='frames', bounds=(1, 10_000))
    realtime: bool = option(False, 'replay at the recorded pace: the newest frame wins, drops are counted')
    pictures: str = option('jpeg', 'how the output bag keeps the avatar\'s pictures', choices=('jpeg', 'raw', 'none'))
    lpips: str = option('', "torchvision's vgg16 weights (.pth or .safetensors), for LPIPS")
    arcface: str = option('', "insightface's backbone.pth, for the cosine similarity of identities")
