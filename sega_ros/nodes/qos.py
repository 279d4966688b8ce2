"""Quality-of-service profiles. Functions, not constants: rclpy changes profiles it is given in place."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def newest(*, reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE) -> QoSProfile:
    """Keep the last one. Reliable: best effort loses nearly every message of more than half a megabyte."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability,
                      durability=DurabilityPolicy.VOLATILE)


def image_input() -> QoSProfile:
    """Newest image of any publisher, reliable when offered."""
    return newest(reliability=ReliabilityPolicy.BEST_AVAILABLE)


def expression() -> QoSProfile:
    """Reliable with a little depth: expression messages are small and a robot's link may hiccup."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.VOLATILE)


def latched() -> QoSProfile:
    """Last value for late subscribers."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)


def diagnostics() -> QoSProfile:
    """What ROS's own publishers of diagnostics use."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.VOLATILE)
