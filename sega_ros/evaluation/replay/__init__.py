"""Rosbag replay evaluation: a recorded camera topic in, defensible figures out; no ROS, the same bytes every time."""
