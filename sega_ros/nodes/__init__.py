"""ROS 2 nodes: the only place that knows ROS. A callback converts, calls the core and publishes."""
