"""The live page: frames of the plugin offloop-visualizer over a WebSocket, and their export as a video.

tracks            WAV files in shared memory: limits, expiry
loop_lag          how late the event loop is
frame_socket      sends frames to one browser, as fast as it takes them
video_export      renders the same frames into a video file, with progress
routes            HTTP and WebSocket routes
"""
